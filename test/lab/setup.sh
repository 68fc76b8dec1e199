#!/bin/sh
# Makes a checkout ready to run: Debian packages, `npm ci` (which brings the pinned Node), nothing else.
# Arguments are further Debian packages, of the slower suites. Safe to repeat; does nothing, quickly, when all is in place. Uses Debian's archive and the npm registry only.
set -eu
cd "$(dirname "$0")/../.."

# softhsm2: the token. The compilers: pkcs11js is built from source. The rest is what the interop tests call.
packages="softhsm2 python3 make g++ openssl jose python3-jwcrypto python3-grpcio python3-protobuf python3-yaml"

# Installs those of the packages named that are not there.
install_debian() {
  missing=""
  for package in "$@"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
  done
  [ -n "$missing" ] || return 0
  echo "setup: installing Debian packages:$missing" >&2
  as_root=""
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || {
      echo "setup: not root and no sudo; run this as root first: apt-get install$missing" >&2
      exit 1
    }
    as_root="sudo"
  fi
  # shellcheck disable=SC2086
  {
    DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends $missing >/dev/null 2>&1 || {
      $as_root apt-get update -qq
      DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends $missing >/dev/null
    }
  }
}
# shellcheck disable=SC2086
install_debian $packages "$@"

# The PostgreSQL server, for clusters that the tests make themselves: Debian would make and start one of its own.
if ! dpkg-query -W -f='${Status}' postgresql 2>/dev/null | grep -q 'ok installed'; then
  install_debian postgresql-common
  conf=/etc/postgresql-common/createcluster.conf
  if ! grep -qs '^create_main_cluster = false' $conf; then
    as_root=""
    [ "$(id -u)" = 0 ] || as_root="sudo"
    echo 'create_main_cluster = false' | $as_root tee -a $conf >/dev/null
  fi
  install_debian postgresql
fi

# npm writes node_modules/.package-lock.json last, so it is newer than the lock file when an install is complete.
if [ ! -e node_modules/.package-lock.json ] || [ package-lock.json -nt node_modules/.package-lock.json ] || [ ! -x node_modules/.bin/node ]; then
  echo "setup: npm ci" >&2
  npm ci --no-audit --no-fund --loglevel=error
  touch node_modules/.package-lock.json
fi

# Debian's node-gyp links every addon with Debian's own libnode. Loaded into the pinned Node that makes two Nodes in
# one process, whose symbols mix: it dies of heap corruption sooner or later. The pinned Node has what addons need.
for addon in node_modules/*/build/Release/*.node; do
  library=$(readelf -d "$addon" | sed -n 's/.*NEEDED.*\[\(libnode\.so[^]]*\)\]/\1/p')
  [ -n "$library" ] || continue
  install_debian patchelf
  patchelf --remove-needed "$library" "$addon"
done

node_modules/.bin/node -e 'process.exit(Number(process.versions.node.split(".")[0]) >= 24 ? 0 : 1)' || {
  echo "setup: the pinned Node is not usable: $(node_modules/.bin/node --version 2>&1)" >&2
  exit 1
}
