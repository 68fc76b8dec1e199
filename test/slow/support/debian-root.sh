#!/bin/sh
# Makes a folder with a minimal Debian of some suite in it; does nothing, quickly, where it is there. Run as root.
# usage: debian-root.sh SUITE FOLDER PACKAGE,PACKAGE…   To make it anew, remove the folder.
set -eu
suite=$1
root=$2
packages=$3
wanted="$suite $packages"

mkdir -p "$(dirname "$root")"
exec 9>"$root.lock"
flock 9
[ "$(cat "$root/.mortise" 2>/dev/null)" != "$wanted" ] || exit 0

command -v debootstrap >/dev/null || {
  export DEBIAN_FRONTEND=noninteractive
  apt-get install -y -qq --no-install-recommends debootstrap >/dev/null 2>&1 || {
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends debootstrap >/dev/null
  }
}
rm -rf --one-file-system "$root" "$root.partial"
debootstrap --variant=minbase "$suite" "$root.partial" http://deb.debian.org/debian
# By apt and not by debootstrap, which does not know alternatives and versions; nothing is started.
printf '#!/bin/sh\nexit 101\n' >"$root.partial/usr/sbin/policy-rc.d"
chmod 755 "$root.partial/usr/sbin/policy-rc.d"
# shellcheck disable=SC2046
DEBIAN_FRONTEND=noninteractive chroot "$root.partial" apt-get install -y -qq --no-install-recommends $(echo "$packages" | tr , ' ')
mkdir "$root.partial/mortise"
printf %s "$wanted" >"$root.partial/.mortise"
mv "$root.partial" "$root" # so that a folder that is there is whole
