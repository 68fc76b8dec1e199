// Calls a KMS v2 plugin as the API server does: Go's gRPC over a Unix socket with "localhost" as authority, waiting for
// readiness, three seconds for each call. It writes one line of JSON and ends with 1 where the plugin breaks a rule.
// usage: kms-client SOCKET
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"mortise.example/kms/kmsv2"
)

// codec is that of newer releases: Debian's gRPC takes messages of an older protobuf by itself.
type codec struct{}

func (codec) Marshal(value interface{}) ([]byte, error) { return proto.Marshal(value.(proto.Message)) }
func (codec) Unmarshal(data []byte, into interface{}) error {
	return proto.Unmarshal(data, into.(proto.Message))
}
func (codec) Name() string { return "proto" }

func run(path string) (map[string]interface{}, error) {
	dial := func(ctx context.Context, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}
	connection, err := grpc.Dial("localhost", grpc.WithInsecure(), grpc.WithAuthority("localhost"),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true), grpc.ForceCodec(codec{})), grpc.WithContextDialer(dial))
	if err != nil {
		return nil, err
	}
	defer connection.Close()
	client := kmsv2.NewKeyManagementServiceClient(connection)
	call := func(act func(context.Context) error) error {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		return act(ctx)
	}
	seed := bytes.Repeat([]byte{7}, 32)
	var status *kmsv2.StatusResponse
	var sealed *kmsv2.EncryptResponse
	var opened *kmsv2.DecryptResponse
	steps := []func(context.Context) error{
		func(ctx context.Context) (err error) {
			status, err = client.Status(ctx, &kmsv2.StatusRequest{})
			return
		},
		func(ctx context.Context) (err error) {
			sealed, err = client.Encrypt(ctx, &kmsv2.EncryptRequest{Plaintext: seed, Uid: "go-encrypt"})
			return
		},
		func(ctx context.Context) (err error) {
			opened, err = client.Decrypt(ctx, &kmsv2.DecryptRequest{Ciphertext: sealed.Ciphertext, KeyId: sealed.KeyId,
				Annotations: sealed.Annotations, Uid: "go-decrypt"})
			return
		},
	}
	for _, step := range steps {
		if err := call(step); err != nil {
			return nil, err
		}
	}
	switch {
	case status.Version != "v2" || status.Healthz != "ok" || status.KeyId == "" || len(status.KeyId) > 1024:
		return nil, fmt.Errorf("status: %v", status)
	case sealed.KeyId != status.KeyId:
		return nil, fmt.Errorf("key_id: %s, not %s", sealed.KeyId, status.KeyId)
	case len(sealed.Ciphertext) == 0 || len(sealed.Ciphertext) > 1024:
		return nil, fmt.Errorf("ciphertext of %d bytes", len(sealed.Ciphertext))
	case !bytes.Equal(opened.Plaintext, seed):
		return nil, fmt.Errorf("it decrypts to something else")
	}
	size := 0
	for name, value := range sealed.Annotations {
		size += len(name) + len(value)
		if !strings.Contains(name, ".") {
			return nil, fmt.Errorf("annotation %s", name)
		}
	}
	if size >= 32*1024 {
		return nil, fmt.Errorf("annotations of %d bytes", size)
	}
	return map[string]interface{}{"keyId": sealed.KeyId, "annotations": len(sealed.Annotations)}, nil
}

func main() {
	told, err := run(os.Args[1])
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(told)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
