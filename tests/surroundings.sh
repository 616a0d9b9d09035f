#!/bin/sh
# Run `make test` in a copy of this tree, in surroundings unlike those of its developers, all at once.
# `make test-surroundings` calls it as root. Arguments are given to pytest, in the place of the suite:
#     tests/surroundings.sh tests/client
set -eu
cd "$(dirname "$0")/.."

folder=$(mktemp -d)
checkout="$folder/Stillroom für alle"
trap 'rm -rf "$folder"' EXIT
mkdir "$checkout" "$folder/home" "$folder/tmp"
git ls-files -z --cached --others --exclude-standard | tar -c --null -T - |
	tar -x -C "$checkout"
# Python of the system, since one in a home directory may be hidden from other users.
python=${PYTHON:-/usr/bin/python3}
chmod 755 "$folder"
chown -R 65534:65534 "$checkout" "$folder/tmp"
chmod 555 "$folder/home"

as_nobody() {
	setpriv --reuid=65534 --regid=65534 --clear-groups "$@"
}

# Some tests ask git which files belong to the project.
as_nobody env HOME="$folder/tmp" git -C "$checkout" init --quiet
as_nobody env HOME="$folder/tmp" git -C "$checkout" add --all

# Installing needs the network, and so the caller's variables; what follows is without them.
as_nobody env HOME="$folder/tmp" make -s -C "$checkout" PYTHON="$python" .make/dev .make/javascript

cat > "$folder/strange" <<'STRANGE'
umask 077
trap '' INT HUP
if [ $# = 0 ]; then exec make test; else exec .venv/bin/pytest -n 4 --dist loadscope "$@"; fi
STRANGE
cd "$checkout"
as_nobody prlimit --nofile=1024:1024 env -i \
	PATH="$PATH" HOME="$folder/home" TMPDIR="${TMPDIR:-/dev/shm}" PYTHON="$python" \
	TZ=Asia/Tokyo LC_ALL=C \
	http_proxy=http://127.0.0.1:9 https_proxy=http://127.0.0.1:9 all_proxy=http://127.0.0.1:9 \
	STILLROOM_URL=http://127.0.0.1:9 STILLROOM_TOKEN=stale STILLROOM_JWT_SECRET=short \
	STILLROOM_DATA_DIR=/nonexistent STILLROOM_DATABASE_URL=postgresql://127.0.0.1:9/none \
	R2_ENDPOINT_URL=http://127.0.0.1:9 R2_BUCKET_NAME=stale R2_ACCESS_KEY_ID=a R2_SECRET_ACCESS_KEY=b \
	AWS_PROFILE=stale PGHOST=127.0.0.1 PGPORT=9 PYTEST_ADDOPTS="${PYTEST_ADDOPTS:-}" \
	sh "$folder/strange" "$@"
