// Signs a message and verifies the signature, then asks for a key that is not there and reads the error's code.
// usage: main KEY MESSAGE; the socket is $MORTISE_SOCKET, the token, if any, in the file $MORTISE_TOKEN_FILE.
package main

import (
	"context"
	"fmt"
	"log"
	"net"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"mortise.example/client/agentv1"
	"mortise.example/client/rpc"
)

// The stable code of a refusal, for example KEY_UNKNOWN.
func codeOf(err error) string {
	for _, packed := range status.Convert(err).Proto().GetDetails() {
		info := &rpc.ErrorInfo{}
		if !strings.HasSuffix(packed.GetTypeUrl(), "/google.rpc.ErrorInfo") {
			continue
		}
		if proto.Unmarshal(packed.GetValue(), info) == nil && info.Domain == "mortise" {
			return info.Reason
		}
	}
	return status.Code(err).String()
}

func withToken(ctx context.Context) (context.Context, error) {
	path := os.Getenv("MORTISE_TOKEN_FILE")
	if path == "" {
		return ctx, nil // the agent goes by the uid of this process
	}
	token, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+strings.TrimSpace(string(token))), nil
}

func run(key, message string) error {
	dial := func(ctx context.Context, path string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}
	connection, err := grpc.Dial(os.Getenv("MORTISE_SOCKET"), grpc.WithInsecure(),
		grpc.WithContextDialer(dial), grpc.WithAuthority("localhost"),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(codec{})))
	if err != nil {
		return err
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if ctx, err = withToken(ctx); err != nil {
		return err
	}

	crypto := agentv1.NewCryptoServiceClient(connection)
	signed, err := crypto.Sign(ctx, &agentv1.SignRequest{
		Key: key, Input: &agentv1.SignRequest_Message{Message: []byte(message)},
	})
	if err != nil {
		return err
	}
	verified, err := crypto.Verify(ctx, &agentv1.VerifyRequest{Signature: &agentv1.VerifyRequest_Jws{Jws: signed.Jws}})
	if err != nil {
		return err
	}
	fmt.Println(verified.Valid, string(verified.Payload), verified.Envelope.AlgorithmUsed)

	_, err = crypto.Encrypt(ctx, &agentv1.EncryptRequest{Key: "nobody"})
	fmt.Println(codeOf(err))
	return nil
}

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: main KEY MESSAGE")
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		log.Fatalf("%s: %v", codeOf(err), err)
	}
}
