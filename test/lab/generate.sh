#!/bin/sh
# Generates proto/gen, or the same tree under the folder given: code, and what reflection tells of each program.
set -eu
cd "$(dirname "$0")/../.."
out=${1:-.}
buf generate --output "$out"
buf build --as-file-descriptor-set --path proto/google --path proto/mortise/agent -o "$out/proto/gen/descriptors.binpb"
buf build --as-file-descriptor-set --path proto/google --path proto/mortise/registry \
  -o "$out/proto/gen/registry-descriptors.binpb"
