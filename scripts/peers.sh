#!/bin/sh
# Install the system's programs that some tests and drills use. Those are skipped without them, and say so.

set -eu

missing=
need() { # program, Debian's package
    command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}
PATH=$PATH:/usr/sbin:/sbin
need ip iproute2       # networks of hosts that can be parted
need mkfs.ext4 e2fsprogs # disks of hosts that can lose their power
need node nodejs       # the SDK for Node
need npm npm

if [ -z "$missing" ]; then
    exit 0
fi
if ! command -v apt-get >/dev/null 2>&1 || [ "$(id -u)" -ne 0 ]; then
    echo "peers: these packages are missing:$missing. Tests and drills that use them are skipped or not run; install them (as root on Debian or Ubuntu: make peers)." >&2
    exit 0
fi
echo "peers: installing$missing"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# shellcheck disable=SC2086 # a list of packages
if ! { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing; } >"$log" 2>&1 </dev/null; then
    tail -n 5 "$log" >&2
    echo "peers: could not install$missing; tests and drills that use them are skipped or not run." >&2
fi
