# What the Makefile installs. Environments: once, and again when one of their files changes.

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

# In addition to the server, in the same environment.
$(STAMP)/dev: $(STAMP)/server requirements/dev.txt
	$(BIN)/pip $(INSTALL) --require-hashes -r requirements/dev.txt
	@touch $@

$(STAMP)/release $(STAMP)/docs $(STAMP)/bench: $(STAMP)/%: $(STAMP)/dev requirements/%.txt
	$(BIN)/pip $(INSTALL) --require-hashes -r requirements/$*.txt
	@touch $@

# Generators of clients, and Next.js.
$(STAMP)/clients: $(STAMP)/dev requirements/clients.txt tests/clients/package.json tests/clients/package-lock.json | npm
	$(BIN)/pip $(INSTALL) --require-hashes -r requirements/clients.txt
	npm ci --prefix tests/clients --silent --ignore-scripts --no-audit --no-fund
	@touch $@

# Hashes are checked against the lock; scripts of packages are not run.
$(STAMP)/javascript: package.json package-lock.json | npm
	npm ci --silent --ignore-scripts --no-audit --no-fund
	@mkdir -p $(STAMP) && touch $@

# Environments of their own.
$(STAMP)/oldest.installed: requirements/oldest.txt requirements/build.txt pyproject.toml
	@mkdir -p $(STAMP)
	$(PYTHON) -m venv --clear $(STAMP)/oldest
	$(STAMP)/oldest/bin/pip $(INSTALL) --require-hashes \
		-r requirements/build.txt -r requirements/oldest.txt
	$(STAMP)/oldest/bin/pip $(INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

# The core alone: neither SQLAlchemy nor Pillow.
$(STAMP)/core.installed: requirements/core.txt requirements/build.txt pyproject.toml src/stillroom/__init__.py
	@mkdir -p $(STAMP)
	$(PYTHON) -m venv --clear $(STAMP)/core
	$(STAMP)/core/bin/pip $(INSTALL) --require-hashes -r requirements/build.txt -r requirements/core.txt
	$(STAMP)/core/bin/pip $(INSTALL) --no-deps --no-build-isolation -e .
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

# Recipes run with other versions of our own dependencies.
$(STAMP)/recipes.installed: requirements/recipes.txt
	@mkdir -p $(STAMP)
	$(PYTHON) -m venv --clear $(STAMP)/recipes
	$(STAMP)/recipes/bin/pip $(INSTALL) --require-hashes -r requirements/recipes.txt
	@touch $@

# Benchmarks compare the newest Python with the oldest one, if it is there.
$(STAMP)/newer-python: $(STAMP)/dev
	@if python3.13 -c "" 2> /dev/null; then $(MAKE) --no-print-directory $(STAMP)/python-3.13.installed; \
	else echo "no Python 3.13: its rows are left out"; fi

# Programs that Debian has; tests that need one fail without it, and say the same.
DEBIAN_nginx := nginx-light
DEBIAN_mkfs.xfs := xfsprogs
DEBIAN_systemd-analyze := systemd
DEBIAN_exiftool := libimage-exiftool-perl
$(PROGRAMS):
	@[ -x /usr/sbin/$@ ] || command -v $@ > /dev/null || [ "$$(id -u)" != 0 ] || { $(call APT_INSTALL,$(or $(DEBIAN_$@),$@)); }

postgresql:
	@ls /usr/lib/postgresql/*/bin/initdb > /dev/null 2>&1 || command -v initdb > /dev/null || \
		[ "$$(id -u)" != 0 ] || { $(call APT_INSTALL,postgresql-17); }

# One after another, and the lists are fetched once.
APT_INSTALL = mkdir -p $(STAMP) && flock $(STAMP)/apt.lock sh -ec '\
	[ -n "$$(find $(STAMP)/apt.lists -mmin -60 2> /dev/null)" ] || { apt-get update -q && touch $(STAMP)/apt.lists; }; \
	apt-get install -qy --no-install-recommends $(1)' > $(STAMP)/$@.log 2>&1 || { cat $(STAMP)/$@.log; exit 1; }
