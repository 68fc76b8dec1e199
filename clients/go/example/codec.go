package main

import "google.golang.org/protobuf/proto"

// codec replaces the one of gRPC for Go before 1.36, such as Debian 12's: that one encodes by protobuf 1.3, which does not
// know the messages that protoc-gen-go makes today. Later ones need no such thing.
type codec struct{}

func (codec) Name() string { return "proto" }

func (codec) Marshal(message interface{}) ([]byte, error) {
	return proto.Marshal(message.(proto.Message))
}

func (codec) Unmarshal(data []byte, message interface{}) error {
	return proto.Unmarshal(data, message.(proto.Message))
}
