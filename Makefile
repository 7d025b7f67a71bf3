# Two commands do everything on a fresh Debian 12 or Raspberry Pi OS (python3, git, make; root or sudo): make demo, make test.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
STUBS := $(VENV)/micropython-stubs
COMPILE := uv pip compile --universal --generate-hashes --python-version 3.11 --no-emit-index-url --no-emit-find-links --no-annotate --no-header
TEST_PACKAGES := chromium:chromium
SECONDS ?=
DRIVE ?=
TRUCK ?=
JSON ?=

.PHONY: demo test lint types arrows unit schemas lock bench clean help

help:
	@echo "make demo                the whole way on real parts, until Ctrl-C"
	@echo "make demo SECONDS=45     the same for 45 s, then a summary; non-zero exit if anything did not arrive"
	@echo "make demo DRIVE=DIR      a recorded drive (CSV folder, GPX or NMEA file) instead of the synthetic world"
	@echo "make test                linters, types, arrows between the rooms, all tests"
	@echo "make lock                new exact versions with hashes; make schemas: protobuf code from logbook/schemas"

demo: $(STAMP) debian-demo
	@$(BIN)/cruisers demo $(if $(SECONDS),--seconds $(SECONDS)) $(if $(DRIVE),--drive "$(DRIVE)") $(if $(TRUCK),--truck "$(TRUCK)") $(if $(JSON),--json "$(JSON)")

test: $(STAMP) debian-demo debian-test lint types arrows unit

.PHONY: debian-demo debian-test
debian-demo:
	@sh ./install-packages.sh ejabberd:ejabberdctl gpsd:gpsd
debian-test:
	@sh ./install-packages.sh $(TEST_PACKAGES)

# The virtual environment is rebuilt from the lock whenever the lock or the project's metadata changes.
$(STAMP): requirements.lock requirements-stubs.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make: $(PYTHON) is older than 3.11; name a newer one: make PYTHON=python3.11 ..." >&2; exit 2; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || sh ./install-packages.sh python3-venv:no-such-command
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing the locked Python packages into $(VENV) ..." >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --no-index -e .
	@rm -rf $(STUBS)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --target $(STUBS) -r requirements-stubs.lock
	@touch $@

lint: $(STAMP)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

# Twice: MicroPython's stubs shadow the standard library (time has ticks_ms there), so the rooms that run on the head get a run of their own.
types: $(STAMP)
	@$(BIN)/mypy
	@$(BIN)/mypy --config-file mypy-micropython.ini

arrows: $(STAMP)
	@$(BIN)/lint-imports

unit: $(STAMP)
	@$(BIN)/pytest

schemas: $(STAMP)
	@$(BIN)/python -m logbook.schemas.generate

lock:
	$(COMPILE) pyproject.toml --group dev -o requirements.lock
	$(COMPILE) --group micropython-stubs -o requirements-stubs.lock

bench: $(STAMP)
	@$(BIN)/python -m bench

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
