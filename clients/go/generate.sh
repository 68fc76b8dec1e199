#!/bin/sh
# Makes Go stubs of the agent's services. usage: generate.sh DIRECTORY IMPORT_PATH
set -eu
out=${1:?usage: generate.sh DIRECTORY IMPORT_PATH}
import=${2:?usage: generate.sh DIRECTORY IMPORT_PATH}
proto="$(cd "$(dirname "$0")/../.." && pwd)/proto"

# The .proto files name no Go package, since nobody publishes one: it is given here.
mapping="Mgoogle/rpc/status.proto=$import/rpc;rpc"
files="google/rpc/status.proto"
for file in "$proto"/mortise/agent/v1/*.proto; do
  name="mortise/agent/v1/$(basename "$file")"
  mapping="$mapping,M$name=$import/agentv1;agentv1"
  files="$files $name"
done
mkdir -p "$out"
# shellcheck disable=SC2086
protoc -I "$proto" \
  --go_out="$out" --go_opt="module=$import,$mapping" \
  --go-grpc_out="$out" --go-grpc_opt="module=$import,$mapping" $files
