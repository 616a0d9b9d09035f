# Stillroom: `make serve` starts it, `make test` tests it; both install what they need first.

PYTHON ?= python3
BIN := .venv/bin
STAMP := .make
# Tests start hundreds of processes, and each compiles all of src again where no bytecode is kept.
export PYTHONDONTWRITEBYTECODE :=
# Modules are compiled when they are first imported; most never are.
INSTALL := install --quiet --disable-pip-version-check --no-compile

PROGRAMS := npm nginx caddy chromium prometheus wrk mkfs.xfs rsync rclone sqlite3 systemd-analyze exiftool jq buildah mmdebstrap
.PHONY: $(PROGRAMS) postgresql help help-all install serve unit core check test test-all test-whole clients test-pythons test-oldest test-newest
.PHONY: coverage mutations flakes test-surroundings bench bench-quick bench-half-open test-root crash cluster saturation soak
.PHONY: release-check image-check audit lint lint-javascript lint-python format reference async-client lock docs clean

help help-all:
	@awk -F ':.*#[#-] ' -v all=$(filter help-all,$@) '/^[a-z-]+:.*## / || all && /^[a-z-]+:.*#- / \
		{ printf "make %-18s %s\n", $$1, $$2 } END { if (!all) print "make help-all lists the others" }' Makefile

install: $(STAMP)/server

# Any free port and other settings: STILLROOM_PORT=9000 make serve
serve: install  ## install and start the server (http://127.0.0.1:8000; another port: STILLROOM_PORT=9000)
	@exec $(BIN)/stillroom serve --sign-in-link

# CONTRIBUTING.md describes the loops. Tests wait for services and time-outs: four processes, or six, for two cores.
TESTS := $(BIN)/pytest -n 4 --dist loadscope
OF_TEST := -m "not whole and not root and not release"

unit: $(STAMP)/dev  ## the tests without a server or a service; 15 seconds
	$(TESTS) -q -m "not slow" tests/unit

core: $(STAMP)/core.installed  ## the tests of the store alone, installed without its features; a minute
	@for library in sqlalchemy alembic aiosqlite psycopg PIL; do ! $(STAMP)/core/bin/python -c "import $$library" 2> /dev/null || exit 1; done
	$(STAMP)/core/bin/pytest -n 4 --dist loadscope -q -m "not whole" tests/contract tests/core

check: lint audit  ## linters, types, imports and the quick tests: a minute
	$(TESTS) -q -m "not slow and not whole"

test:  ## install and run the tests; 10 minutes on two cores
	@$(MAKE) --no-print-directory -j4 $(STAMP)/dev nginx postgresql exiftool
	$(BIN)/pytest -n 6 --dist loadscope $(OF_TEST)

test-all: lint test test-whole test-root test-pythons  ## these tests, and those of deployments, browsers and crashes; needs root, 45 minutes

# Tests in these folders are long and share nothing. The others share servers within their files.
LONG := $(addprefix tests/,browser clients cluster crash deploy proxy)
OF_WHOLE := -m "whole and not root and not release"
test-whole:  #- of these, what needs no root
	@$(MAKE) --no-print-directory -j4 \
		clients nginx caddy chromium prometheus postgresql rsync rclone sqlite3 exiftool jq systemd-analyze wrk
	$(BIN)/pytest -n 4 --dist worksteal $(OF_WHOLE) $(LONG)
	$(BIN)/pytest -n 4 --dist loadscope $(OF_WHOLE) $(LONG:%=--ignore=%)

clients: $(STAMP)/clients $(STAMP)/recipes.installed  #- install what tests/clients needs: generators of clients, Gradio, Next.js

test-root: $(STAMP)/dev mkfs.xfs systemd-analyze  #- of these, what mounts filesystems; needs root
	$(call NEEDS_ROOT,mounts filesystems)
	$(BIN)/pytest -n 2 --dist loadgroup --maxschedchunk 1 -m root

NEEDS_ROOT = @[ "$$(id -u)" = 0 ] || { echo "make $@ $(1): run it as root"; exit 1; }

# On the oldest allowed versions (Python 3.11 or 3.12: older wheels know no newer one), and on the newest ones of today.
OF_EMBED := $(patsubst %,tests/embed/test_%.py,authorize operations router settings)
OF_DEPENDENCIES := -q $(OF_TEST) tests/unit tests/generation tests/api $(OF_EMBED) \
	--ignore tests/unit/test_architecture.py \
	tests/contract/test_disk.py tests/derived tests/media/test_ingest.py tests/media/test_changes.py tests/r2/test_objects.py \
	$(patsubst %,tests/client/test_%.py,connecting many sources store) \
	$(patsubst %,tests/acceptance/test_%.py,answers bounds derived edge starting) $(wildcard tests/acceptance/test_media*.py)

test-oldest: $(STAMP)/oldest.installed exiftool  #- tests on the oldest versions of the dependencies that are allowed
	$(STAMP)/oldest/bin/pytest $(OF_DEPENDENCIES)

test-newest: $(STAMP)/newest.installed exiftool  #- tests on the newest versions of them, whatever the locks say
	$(STAMP)/newest/bin/pip $(INSTALL) --upgrade --upgrade-strategy eager \
		--no-build-isolation -e '.[server]' -r requirements/oldest.in
	$(STAMP)/newest/bin/pip list --disable-pip-version-check --format=freeze > $(STAMP)/newest.txt
	$(STAMP)/newest/bin/pytest $(OF_DEPENDENCIES)

# On other Pythons than that of .venv, with the same locks: what another asyncio, multiprocessing or os may change.
PYTHONS ?= 3.11 3.12 3.13 3.14
OF_PYTHON := -q -k "not asgi-path" $(OF_TEST) tests/unit tests/generation tests/api $(OF_EMBED) \
	$(patsubst %,tests/acceptance/test_%.py,answers bounds derived fast_path keys media races \
	requests_ahead serving slow_and_gone_clients starting)
test-pythons: $(PYTHONS:%=test-python-%)  #- tests on the other Pythons that are here; 3 minutes for each

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

coverage: lint nginx postgresql exiftool  #- lines and branches of src that the tests reach; 20 minutes
	@rm -f .coverage .coverage.*
	COVERAGE_CORE=ctrace $(BIN)/coverage run -m pytest -q -n 2 --dist loadscope $(OF_TEST); \
		$(BIN)/coverage combine -q && $(BIN)/coverage report

# Programs in tests and benchmarks; SAVE=--save replaces their tables in the docs.
RUN := @PYTHONPATH=tests $(BIN)/python -m
CUTS ?= 500
KILLS ?= 2000
MINUTES ?= 60

flakes: $(STAMP)/dev nginx postgresql exiftool  #- tests again and again under load: which fail by chance? FLAKES="--runs 10 tests/media"
	$(RUN) flakes $(FLAKES)

test-surroundings: nginx postgresql exiftool  #- make test as another user, with small limits, odd paths and variables; needs root
	$(call NEEDS_ROOT,becomes another user)
	@tests/surroundings.sh

mutations: $(STAMP)/dev nginx postgresql  #- plants more than a hundred faults: does a test find each?
	$(RUN) mutations

crash: $(STAMP)/dev mkfs.xfs postgresql  #- power cuts, kills and failing calls by the thousand; needs root, about an hour
	$(call NEEDS_ROOT,mounts filesystems)
	$(RUN) crash.campaign --cuts $(CUTS) --kills $(KILLS)

cluster: $(STAMP)/dev nginx postgresql  #- three servers on a cluster while its parts fail; 3 minutes
	$(RUN) cluster.campaign $(SAVE)

saturation: $(STAMP)/dev postgresql  #- the cost of each kind of work to a process; a minute
	$(RUN) benchmarks.saturation $(SAVE)

soak: $(STAMP)/dev  #- memory and descriptors of each process under mixed load; an hour, or MINUTES=15
	$(RUN) benchmarks.soak --minutes $(MINUTES) $(SAVE)

bench-half-open: install  #- the cost of 1,000 half-open connections, and of attacks, to others; two minutes
	@$(BIN)/python benchmarks/half_open.py
	$(RUN) benchmarks.under_attack

# Replaces benchmarks/RESULTS.md, docs/performance.svg and a sentence of README.md. Nothing else should run meanwhile.
bench: $(STAMP)/bench $(STAMP)/newer-python nginx wrk chromium postgresql  ## benchmarks beside nginx and others, as a table of ratios; 40 minutes
	$(BIN)/python -m benchmarks --save
	$(BIN)/python -m benchmarks.thumbnails
	$(BIN)/python -m benchmarks.gallery
	$(RUN) benchmarks.events

bench-quick: $(STAMP)/bench $(STAMP)/newer-python nginx wrk  #- the same in 3 minutes, less exact, nothing written
	$(BIN)/python -m benchmarks --quick

release-check: export SOURCE_DATE_EPOCH = $(shell git log -1 --format=%ct 2> /dev/null || echo 1577836800)
release-check: docs $(STAMP)/release chromium  #- build wheel, sdist and site, install and run them elsewhere; before a tag: VERSION=1.0.0
	rm -rf dist
	$(BIN)/python -m hatchling build -d dist
	$(BIN)/pytest -n 4 --dist loadgroup -q -m "release or whole" tests/release tests/client/test_wheel.py
	@$(BIN)/python scripts/placeholders.py

docs: $(STAMP)/docs $(STAMP)/javascript  #- build the documentation site into site/; a link that leads nowhere is an error
	$(BIN)/python scripts/site.py

image-check: buildah mmdebstrap  #- build the container image on a Debian made here, and run it; needs root
	$(call NEEDS_ROOT,mounts filesystems)
	@tests/deploy/image-check.sh

# Known vulnerabilities in the dependencies of the server. A mirror may have no advisories, and this says so.
audit: $(STAMP)/dev
	@scripts/audit.sh $(STAMP)/audit.log

lint: lint-javascript lint-python

lint-javascript: $(STAMP)/javascript
	node_modules/.bin/eslint --max-warnings 0 src/stillroom/features/gallery/static integrations/comfyui/web
	node_modules/.bin/tsc

lint-python: $(STAMP)/dev
	$(BIN)/ruff format --check --quiet
	$(BIN)/ruff check --quiet
	$(BIN)/codespell *.md .github Makefile benchmarks deploy docs integrations scripts src tests
	$(BIN)/proselint --config .proselintrc.json check *.md docs/*.md
	$(BIN)/mypy
	$(BIN)/lint-imports > $(STAMP)/imports.log || { cat $(STAMP)/imports.log; exit 1; }

format: $(STAMP)/dev  ## format the code
	$(BIN)/ruff check --fix --quiet
	$(BIN)/ruff format

reference: $(STAMP)/dev  #- write docs/reference and the SBOMs anew, from the code and the locks
	$(RUN) reference
	$(BIN)/python scripts/sbom.py

async-client: $(STAMP)/dev  #- generate the asynchronous classes of the SDK from the synchronous ones
	$(BIN)/python scripts/async_client.py

lock: $(STAMP)/dev  #- pin all dependencies anew, with hashes
	requirements/lock.sh

clean:
	rm -rf .venv node_modules tests/clients/node_modules $(STAMP) site .hypothesis .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .coverage .coverage.*

include requirements/install.mk
