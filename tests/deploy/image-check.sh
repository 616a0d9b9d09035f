#!/bin/sh
# Builds deploy/Containerfile on a Debian that is made here, since a registry may be out of reach, and
# runs the image as podman run --read-only would: `make image-check`. Needs root, Debian's mirror and
# PyPI; five to ten minutes, and 2 GB in /tmp that are given back. Nothing of the machine's own
# images is touched.
set -eu
cd "$(dirname "$0")/../.."
folder=$(mktemp -d /tmp/stillroom-image.XXXXXX)
export BUILDAH_ISOLATION=chroot
files=$(prlimit --nofile --output HARD --noheadings | tr -d ' ')
processes=$(prlimit --nproc --output HARD --noheadings | tr -d ' ')

images() { # COMMAND ARGUMENTS…: buildah with a storage of its own
    buildah --root "$folder/storage" --runroot "$folder/run" --storage-driver vfs "$@"
}
finish() {
    [ -z "${server:-}" ] || kill "$server" 2> /dev/null || true
    images rm --all > /dev/null 2>&1 || true
    rm -rf --one-file-system "$folder"
}
trap finish EXIT

echo "a Debian to build on …"
sources=/etc/apt/sources.list.d/debian.sources  # this machine's mirror, if it has one
[ -e $sources ] || sources=
mmdebstrap --quiet --variant=minbase --include=ca-certificates trixie "$folder/base.tar" $sources
base=$(images from scratch)
images add --quiet "$base" "$folder/base.tar" / > /dev/null
# Whatever this machine trusts, so that pip gets out through a proxy that it has.
images copy --quiet "$base" /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt > /dev/null
images commit --quiet "$base" localhost/debian:trixie-slim > /dev/null
rm "$folder/base.tar"

echo "the image …"
images build --quiet --format docker --network host --ulimit "nofile=$files:$files" \
    --ulimit "nproc=$processes:$processes" --build-arg BASE=localhost/debian:trixie-slim \
    -f deploy/Containerfile -t localhost/stillroom . > "$folder/log" 2>&1 || { tail -50 "$folder/log"; exit 1; }
images inspect --type image localhost/stillroom > "$folder/image.json"
image() { # NAME: of the image's configuration, a word a line
    python3 -c 'import json, sys
found = json.load(open(sys.argv[1]))["Docker"]["config"]
for name in sys.argv[2].split("."): found = found[name]
print(*([found] if isinstance(found, str) else found), sep="\0", end="")' "$folder/image.json" "$1"
}
[ "$(image User)" = 10001:10001 ]

echo "a container …"
root=$(images mount "$(images from localhost/stillroom)")
du -sh "$root"
install -d -o 10001 -g 10001 "$folder/data"
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
export root folder port
as_user='setpriv --reuid=10001 --regid=10001 --clear-groups --no-new-privs --bounding-set=-all
    env --ignore-environment --chdir=/data PATH=/opt/stillroom/bin:/usr/bin:/bin LC_ALL=C.UTF-8
    PYTHONDONTWRITEBYTECODE=1 STILLROOM_DATA_DIR=/data STILLROOM_PORT='"$port"' STILLROOM_MIN_FREE_BYTES=0'
export as_user
unshare --mount sh -euc '
    mount --make-rprivate /
    mount --bind "$root" "$root" && mount -o remount,bind,ro "$root"
    mount --rbind /proc "$root/proc" && mount --rbind /dev "$root/dev"
    mount -t tmpfs -o mode=1777 tmpfs "$root/tmp" && mount --bind "$folder/data" "$root/data"
    exec chroot "$root" $as_user stillroom serve' &
server=$!
within() { nsenter --target="$server" --mount --root $as_user "$@"; }
image Healthcheck.Test | sed -z 1d > "$folder/health"  # without its first word, CMD
well() { xargs -0 -a "$folder/health" nsenter --target="$server" --mount --root $as_user; }
tries=0
until well 2> "$folder/unwell"; do
    tries=$((tries + 1))
    [ $tries -lt 60 ] || { cat "$folder/unwell"; exit 1; }
    sleep 0.5
done
! within touch /opt/stillroom/x 2> /dev/null
token=$(within stillroom token)
within env STILLROOM_URL="http://127.0.0.1:$port" STILLROOM_TOKEN="$token" \
    sh -c 'stillroom put /opt/stillroom/pyvenv.cfg a/b.txt && stillroom get a/b.txt - | cmp - /opt/stillroom/pyvenv.cfg'
within stillroom verify
kill "$server" && wait "$server"
server=
echo "it was built, started as nobody on a read-only root, saved, read, verified, and stopped with 0"
