#!/bin/sh
# Pins all dependencies anew, with hashes: `make lock`. Each file has the versions of those before it.
set -eu
cd "$(dirname "$0")/.."
bin=.venv/bin
$bin/pip install --quiet uv

lock() { # OUTPUT INPUTS…
	output=$1
	shift
	$bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
		--no-annotate --custom-compile-command "make lock" "$@" --output-file "requirements/$output.txt"
}

server="-c requirements/server.txt"
lock server --extra server pyproject.toml
lock dev $server requirements/dev.in
lock core $server -c requirements/dev.txt --extra store pyproject.toml requirements/core.in
lock client $server pyproject.toml
lock build requirements/build.in
lock bench $server -c requirements/dev.txt requirements/bench.in
lock release $server -c requirements/dev.txt requirements/release.in
lock docs $server -c requirements/dev.txt -c requirements/release.txt requirements/docs.in
lock clients $server -c requirements/dev.txt requirements/clients.in
lock recipes pyproject.toml requirements/recipes.in

$bin/python scripts/sbom.py

# The oldest versions that pyproject.toml allows, for one Python.
$bin/uv pip compile --quiet --upgrade --python-version 3.11 --resolution lowest-direct --no-annotate \
	--no-header --extra server pyproject.toml --output-file .make/oldest.txt
$bin/uv pip compile --quiet --upgrade --python-version 3.11 --generate-hashes \
	--no-annotate --custom-compile-command "make lock" -c requirements/build.txt \
	.make/oldest.txt requirements/oldest.in --output-file requirements/oldest.txt

for folder in . tests/clients; do
	npm update --prefix "$folder" --silent --package-lock-only --ignore-scripts --no-audit --no-fund
done
