# Stillroom: `make serve` starts it, `make test` tests it; both install what they need first.

PYTHON ?= python3
BIN := .venv/bin
STAMP := .make
# Tests start hundreds of processes, and each compiles all of src again where no bytecode is kept.
export PYTHONDONTWRITEBYTECODE :=
# What is never imported is not compiled; the rest is when it first is.
INSTALL := install --quiet --disable-pip-version-check --no-compile

.PHONY: help install serve unit check test test-all test-whole clients test-pythons test-oldest test-newest coverage mutations flakes test-surroundings npm nginx caddy chromium prometheus postgresql wrk mkfs.xfs rsync rclone sqlite3 systemd-analyze exiftool buildah mmdebstrap bench bench-quick bench-half-open test-root crash cluster saturation soak release-check image-check audit lint lint-javascript lint-python format reference lock clean

help:
	@echo "make serve      install and start the server (http://127.0.0.1:8000)"
	@echo "make unit       the tests without a server or a service; 15 seconds"
	@echo "make check      linters, types, imports and the quick tests: the inner loop; a minute"
	@echo "make test       install and run the tests; 10 minutes"
	@echo "make test-all   these, and whole deployments, browsers, crashes; needs root, 40 minutes"
	@echo "make test-whole of these, what needs no root"
	@echo "make clients    install what tests/clients needs: generators of clients, Gradio, Next.js"
	@echo "make test-root  of these, what mounts filesystems; needs root"
	@echo "make test-pythons  tests on the other Pythons that are here; 5 minutes for each"
	@echo "make test-oldest  tests on the oldest versions of the dependencies that are allowed"
	@echo "make test-newest  tests on the newest versions of them, whatever the locks say"
	@echo "make coverage   what of src the tests reach, lines and branches; 20 minutes"
	@echo "make flakes     tests again and again, in random order, under load: which fail by chance?"
	@echo "make test-surroundings  make test as another user, with small limits, odd paths and variables; needs root"
	@echo "make mutations  plants more than a hundred faults: does a test find each?"
	@echo "make crash      power cuts, kills and failing calls by the thousand; needs root, about an hour"
	@echo "make cluster    three servers on a cluster while its parts fail; 3 minutes"
	@echo "make saturation what each kind of work costs a process; a minute"
	@echo "make soak       memory and descriptors of each process under mixed load; an hour, or MINUTES=15"
	@echo "make bench-half-open  what 1,000 half-open connections, and attacks, cost others; two minutes"
	@echo "make bench      Stillroom beside nginx and others, a table of ratios; 25 minutes"
	@echo "make bench-quick  the same in 3 minutes, less exact, nothing written"
	@echo "make release-check  build wheel and sdist, look into them, install them elsewhere, run them"
	@echo "make image-check    build the container image on a Debian made here, and run it; needs root"
	@echo "make format     format the code"
	@echo "make reference  write docs/reference anew, from the code"
	@echo "make lock       pin all dependencies anew, with hashes"

install: $(STAMP)/server

# Any free port and other settings: STILLROOM_PORT=9000 make serve
serve: install
	@exec $(BIN)/stillroom serve --sign-in-link

# Four loops; what is in them, and how long they may take: CONTRIBUTING.md, "Tests".
# Four processes on two cores: most of a test is waiting, for services and for what must time out.
TESTS := $(BIN)/pytest -n 4 --dist loadscope

unit: $(STAMP)/dev
	$(TESTS) -q -m "not slow" tests/unit

check: lint audit
	$(TESTS) -q -m "not slow and not whole"

# Installing waits for the network, and the linters need one core each.
test:
	@$(MAKE) --no-print-directory -j4 lint nginx postgresql exiftool
	$(TESTS) -m "not whole and not root and not release"

test-all: test test-whole test-root test-pythons

OF_EMBED := $(patsubst %,tests/embed/test_%.py,authorize operations router settings)

# On the oldest versions that pyproject.toml allows; Python 3.11 or 3.12, older wheels know no newer one.
# And on the newest, as an installation without the locks gets them: looked up anew in each run.
OF_DEPENDENCIES := -q -m "not root and not release and not whole" tests/unit tests/generation tests/api $(OF_EMBED) \
	--ignore tests/unit/test_architecture.py \
	tests/contract/test_disk.py tests/derived tests/media/test_library.py tests/r2/test_objects.py \
	$(patsubst %,tests/client/test_%.py,connecting many sources store) \
	tests/acceptance/test_answers.py tests/acceptance/test_bounds.py \
	tests/acceptance/test_derived.py tests/acceptance/test_edge.py $(wildcard tests/acceptance/test_media*.py) \
	tests/acceptance/test_starting.py

test-oldest: $(STAMP)/oldest.installed exiftool
	$(STAMP)/oldest/bin/pytest $(OF_DEPENDENCIES)

test-newest: $(STAMP)/newest.installed exiftool
	$(STAMP)/newest/bin/pip $(INSTALL) --upgrade --upgrade-strategy eager \
		--no-build-isolation -e '.[server]' -r requirements/oldest.in
	$(STAMP)/newest/bin/pip list --disable-pip-version-check --format=freeze > $(STAMP)/newest.txt
	$(STAMP)/newest/bin/pytest $(OF_DEPENDENCIES)

# On other Pythons than that of .venv, with the same locks: all of tests/unit, and of the acceptance
# suite what another asyncio, multiprocessing or os may change. Which are not here is said.
PYTHONS ?= 3.11 3.12 3.13 3.14
OF_PYTHON := -q -k "not asgi-path" -m "not root and not release and not whole" tests/unit tests/generation tests/api $(OF_EMBED) \
	$(patsubst %,tests/acceptance/test_%.py,answers bounds copy_and_delete derived edge fast_path \
	hostile_paths kept_answers keys media media_permissions media_resources operations races \
	requests_ahead serving signed_urls slow_and_gone_clients starting sweeping)
test-pythons: $(PYTHONS:%=test-python-%)

# A command `python3.12`, or what pyenv has of it. The recipe needs it twice: `$$python`.
FIND_PYTHON = for python in python$* "$$HOME"/.pyenv/versions/$*.*/bin/python3 none; do \
	"$$python" -c "import venv, ensurepip" 2> /dev/null && break; done

test-python-%: $(STAMP)/dev postgresql
	@$(FIND_PYTHON); \
	if $(BIN)/python -c 'import sys; sys.exit("$*" != "%d.%d" % sys.version_info[:2])'; then \
		echo "Python $*: that of .venv"; \
	elif [ "$$python" = none ]; then \
		echo "NOT TESTED on Python $*: there is no python$* here"; \
	else \
		$(MAKE) --no-print-directory $(STAMP)/python-$*.installed && \
		$(STAMP)/python-$*/bin/pytest -n 4 --dist loadscope $(OF_PYTHON); \
	fi

# Its long tests stand together in their files, and share nothing: each process takes what is left.
test-whole:
	@$(MAKE) --no-print-directory -j4 \
		clients nginx caddy chromium prometheus postgresql rsync rclone sqlite3 exiftool systemd-analyze wrk
	$(BIN)/pytest -n 4 --dist worksteal -m "whole and not root and not release"

clients: $(STAMP)/clients $(STAMP)/recipes.installed

# Tests that need them fail without them, and say the same.
npm: PACKAGE = npm
nginx: PACKAGE = nginx-light
caddy: PACKAGE = caddy
chromium: PACKAGE = chromium
prometheus: PACKAGE = prometheus
wrk: PACKAGE = wrk
mkfs.xfs: PACKAGE = xfsprogs
rsync: PACKAGE = rsync
rclone: PACKAGE = rclone
sqlite3: PACKAGE = sqlite3
buildah: PACKAGE = buildah
mmdebstrap: PACKAGE = mmdebstrap
systemd-analyze: PACKAGE = systemd
exiftool: PACKAGE = libimage-exiftool-perl
npm nginx caddy chromium prometheus wrk mkfs.xfs rsync rclone sqlite3 systemd-analyze buildah mmdebstrap exiftool:
	@[ -x /usr/sbin/$@ ] || command -v $@ > /dev/null || [ "$$(id -u)" != 0 ] || { $(APT_INSTALL); }

# One after another, and the lists are fetched once.
APT_INSTALL = mkdir -p $(STAMP) && flock $(STAMP)/apt.lock sh -ec '\
	[ -n "$$(find $(STAMP)/apt.lists -mmin -60 2> /dev/null)" ] || { apt-get update -q && touch $(STAMP)/apt.lists; }; \
	apt-get install -qy --no-install-recommends $(PACKAGE)' > $(STAMP)/$@.log 2>&1 || { cat $(STAMP)/$@.log; exit 1; }

# Replaces benchmarks/RESULTS.md, docs/performance.svg and a sentence of README.md. Nothing else should run meanwhile.
bench: $(STAMP)/bench $(STAMP)/newer-python nginx wrk chromium
	$(BIN)/python -m benchmarks --save
	$(BIN)/python -m benchmarks.thumbnails
	$(BIN)/python -m benchmarks.gallery

bench-quick: $(STAMP)/bench $(STAMP)/newer-python nginx wrk
	$(BIN)/python -m benchmarks --quick

# The media library is tested on it, too.
postgresql: PACKAGE = postgresql-17
postgresql:
	@ls /usr/lib/postgresql/*/bin/initdb > /dev/null 2>&1 || command -v initdb > /dev/null || \
		[ "$$(id -u)" != 0 ] || { $(APT_INSTALL); }

# Lines and branches of src that `make test` reaches, in servers and commands as well.
coverage: lint nginx postgresql exiftool
	@rm -f .coverage .coverage.*
	COVERAGE_CORE=ctrace $(BIN)/coverage run -m pytest -q -n 2 --dist loadscope -m "not whole and not root and not release"; \
		$(BIN)/coverage combine -q && $(BIN)/coverage report

# FLAKES are its options: make flakes FLAKES="--runs 10 tests/media"
FLAKES ?=
flakes: $(STAMP)/dev nginx postgresql exiftool
	@PYTHONPATH=tests $(BIN)/python -m flakes $(FLAKES)

test-surroundings: nginx postgresql exiftool
	@[ "$$(id -u)" = 0 ] || { echo "make test-surroundings becomes another user: run it as root"; exit 1; }
	@tests/surroundings.sh

mutations: $(STAMP)/dev nginx postgresql
	@PYTHONPATH=tests $(BIN)/python -m mutations

test-root: $(STAMP)/dev mkfs.xfs systemd-analyze
	@[ "$$(id -u)" = 0 ] || { echo "make test-root mounts filesystems: run it as root"; exit 1; }
	$(BIN)/pytest -n 2 --dist loadgroup --maxschedchunk 1 -m root

# CUTS are on each of two filesystems. The defaults take about an hour on two cores.
CUTS ?= 500
KILLS ?= 2000
crash: $(STAMP)/dev mkfs.xfs
	@[ "$$(id -u)" = 0 ] || { echo "make crash mounts filesystems: run it as root"; exit 1; }
	@PYTHONPATH=tests $(BIN)/python -m crash.campaign --cuts $(CUTS) --kills $(KILLS)

# SAVE=--save replaces their tables in docs/proofs.md and docs/scaling.md.
SAVE ?=
cluster: $(STAMP)/dev nginx postgresql
	@PYTHONPATH=tests $(BIN)/python -m cluster.campaign $(SAVE)

saturation: $(STAMP)/dev postgresql
	@PYTHONPATH=tests $(BIN)/python -m benchmarks.saturation $(SAVE)

# Memory and descriptors of each process over time; an hour is enough for all caches to fill.
MINUTES ?= 60
soak: $(STAMP)/dev
	@PYTHONPATH=tests $(BIN)/python -m benchmarks.soak --minutes $(MINUTES) $(SAVE)

# Nothing else should run meanwhile.
bench-half-open: install
	@$(BIN)/python benchmarks/half_open.py
	@PYTHONPATH=tests $(BIN)/python -m benchmarks.under_attack

# Builds what a release is, and tries it in environments of its own; it stays in dist/.
# Right before a tag: make release-check VERSION=1.0.0
release-check: export SOURCE_DATE_EPOCH = $(shell git log -1 --format=%ct 2> /dev/null || echo 1577836800)
release-check: export VERSION := $(VERSION)
release-check: $(STAMP)/release
	rm -rf dist
	$(BIN)/python -m hatchling build -d dist
	$(BIN)/pytest -q -m "release or slow" tests/release tests/client/test_wheel.py

# Builds deploy/Containerfile on a Debian made here, and runs it; a few minutes.
image-check: buildah mmdebstrap
	@[ "$$(id -u)" = 0 ] || { echo "make image-check mounts filesystems: run it as root"; exit 1; }
	@tests/deploy/image-check.sh

# Known vulnerabilities of what the server installs. Where PyPI's advisories cannot be reached
# (a mirror has none) nothing was audited, and that is said.
audit: $(STAMP)/dev
	@$(BIN)/pip-audit --disable-pip --require-hashes --progress-spinner off -r requirements/server.txt 		> $(STAMP)/audit.log 2>&1 || { cat $(STAMP)/audit.log; exit 1; }
	@! grep -q "could not be audited" $(STAMP)/audit.log || echo "NOT AUDITED for known vulnerabilities:" \
		"$$(grep -c 'could not be audited' $(STAMP)/audit.log) packages have no advisories at this index"

# The gallery's modules, as they are: nothing of npm is built in or shipped.
lint-javascript: $(STAMP)/javascript
	node_modules/.bin/eslint --max-warnings 0 src/stillroom/gallery/static integrations/comfyui/web
	node_modules/.bin/tsc

lint: lint-javascript lint-python

lint-python: $(STAMP)/dev
	$(BIN)/ruff format --check --quiet
	$(BIN)/ruff check --quiet
	$(BIN)/codespell *.md Makefile benchmarks deploy docs integrations src tests
	$(BIN)/mypy
	$(BIN)/lint-imports > $(STAMP)/imports.log || { cat $(STAMP)/imports.log; exit 1; }

format: $(STAMP)/dev
	$(BIN)/ruff check --fix --quiet
	$(BIN)/ruff format

reference: $(STAMP)/dev
	@PYTHONPATH=tests $(BIN)/python -m reference

lock: $(STAMP)/dev
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
		--no-annotate --custom-compile-command "make lock" --extra server pyproject.toml \
		--output-file requirements/server.txt
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
		--no-annotate --custom-compile-command "make lock" -c requirements/server.txt \
		requirements/dev.in --output-file requirements/dev.txt
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
		--no-annotate --custom-compile-command "make lock" -c requirements/server.txt \
		pyproject.toml --output-file requirements/client.txt
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
		--no-annotate --custom-compile-command "make lock" \
		requirements/build.in --output-file requirements/build.txt
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
		--no-annotate --custom-compile-command "make lock" -c requirements/server.txt \
		-c requirements/dev.txt requirements/bench.in --output-file requirements/bench.txt
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
		--no-annotate --custom-compile-command "make lock" -c requirements/server.txt \
		-c requirements/dev.txt requirements/release.in --output-file requirements/release.txt
	$(BIN)/uv pip compile --quiet --upgrade --python-version 3.11 --resolution lowest-direct --no-annotate \
		--no-header --extra server pyproject.toml --output-file $(STAMP)/oldest.txt
	$(BIN)/uv pip compile --quiet --upgrade --python-version 3.11 --generate-hashes \
		--no-annotate --custom-compile-command "make lock" -c requirements/build.txt \
		$(STAMP)/oldest.txt requirements/oldest.in --output-file requirements/oldest.txt
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
		--no-annotate --custom-compile-command "make lock" -c requirements/server.txt \
		-c requirements/dev.txt requirements/clients.in --output-file requirements/clients.txt
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
		--no-annotate --custom-compile-command "make lock" \
		pyproject.toml requirements/recipes.in --output-file requirements/recipes.txt
	npm update --silent --package-lock-only --ignore-scripts --no-audit --no-fund
	npm update --prefix tests/clients --silent --package-lock-only --ignore-scripts --no-audit --no-fund

clean:
	rm -rf .venv node_modules tests/clients/node_modules $(STAMP) .hypothesis .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .coverage .coverage.*

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Stillroom needs Python 3.11 or newer: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -m venv .venv || { rm -rf .venv; \
		echo "Python's venv module is missing: apt-get install python3-venv"; exit 1; }

# The version, which pip notes down, is in the package.
$(STAMP)/server: $(BIN)/python requirements/server.txt requirements/build.txt pyproject.toml src/stillroom/__init__.py
	$(BIN)/pip $(INSTALL) --require-hashes \
		-r requirements/build.txt -r requirements/server.txt
	$(BIN)/pip $(INSTALL) --no-deps --no-build-isolation -e .
	@mkdir -p $(STAMP) && touch $@

$(STAMP)/dev: $(STAMP)/server requirements/dev.txt
	$(BIN)/pip $(INSTALL) --require-hashes -r requirements/dev.txt
	@touch $@

$(STAMP)/oldest.installed: requirements/oldest.txt requirements/build.txt pyproject.toml
	@mkdir -p $(STAMP)
	$(PYTHON) -m venv --clear $(STAMP)/oldest
	$(STAMP)/oldest/bin/pip $(INSTALL) --require-hashes \
		-r requirements/build.txt -r requirements/oldest.txt
	$(STAMP)/oldest/bin/pip $(INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

$(STAMP)/newest.installed: requirements/build.txt
	@mkdir -p $(STAMP)
	$(PYTHON) -m venv --clear $(STAMP)/newest
	$(STAMP)/newest/bin/pip $(INSTALL) --require-hashes -r requirements/build.txt
	@touch $@

$(STAMP)/python-%.installed: requirements/server.txt requirements/dev.txt requirements/build.txt pyproject.toml
	@mkdir -p $(STAMP)
	@$(FIND_PYTHON); "$$python" -m venv --clear $(STAMP)/python-$*
	$(STAMP)/python-$*/bin/pip $(INSTALL) --require-hashes \
		-r requirements/build.txt -r requirements/server.txt -r requirements/dev.txt
	$(STAMP)/python-$*/bin/pip $(INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

# Hashes are checked against the lock; scripts of packages are not run.
$(STAMP)/javascript: package.json package-lock.json | npm
	npm ci --silent --ignore-scripts --no-audit --no-fund
	@mkdir -p $(STAMP) && touch $@

# What tests/clients runs: generators of clients, and Next.js.
$(STAMP)/clients: $(STAMP)/dev requirements/clients.txt tests/clients/package.json tests/clients/package-lock.json | npm
	$(BIN)/pip $(INSTALL) --require-hashes -r requirements/clients.txt
	npm ci --prefix tests/clients --silent --ignore-scripts --no-audit --no-fund
	@touch $@

# What a recipe runs with that has other versions of what we have.
$(STAMP)/recipes.installed: requirements/recipes.txt
	@mkdir -p $(STAMP)
	$(PYTHON) -m venv --clear $(STAMP)/recipes
	$(STAMP)/recipes/bin/pip $(INSTALL) --require-hashes -r requirements/recipes.txt
	@touch $@

$(STAMP)/release: $(STAMP)/dev requirements/release.txt
	$(BIN)/pip $(INSTALL) --require-hashes -r requirements/release.txt
	@touch $@

$(STAMP)/bench: $(STAMP)/dev requirements/bench.txt
	$(BIN)/pip $(INSTALL) --require-hashes -r requirements/bench.txt
	@touch $@

# The newest Python beside the oldest one, where it is there; without it its rows are left out.
$(STAMP)/newer-python: $(STAMP)/dev
	@if python3.13 -c "" 2> /dev/null; then $(MAKE) --no-print-directory $(STAMP)/python-3.13.installed; \
	else echo "no Python 3.13: its rows are left out"; fi
