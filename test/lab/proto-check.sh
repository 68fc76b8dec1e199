#!/bin/sh
# The .proto files: lint, format, no breaking change against the main branch, and proto/gen is what they generate.
set -eu
cd "$(dirname "$0")/../.."
buf lint
buf format --diff --exit-code
base=main
git rev-parse --verify --quiet origin/main >/dev/null && base=origin/main
if git cat-file -e "$base:buf.yaml" 2>/dev/null; then
  git_dir=$(git rev-parse --path-format=absolute --git-dir)
  buf breaking --against "$git_dir#ref=$(git rev-parse "$base")"
fi
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
sh test/lab/generate.sh "$fresh"
diff -r "$fresh/proto/gen" proto/gen >&2 || {
  echo 'proto/gen is not what the .proto files generate; run: npm run generate' >&2
  exit 1
}
