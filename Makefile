# Two commands do everything on a fresh Debian 12, x86-64 (python3, git, make; root or sudo): make demo, make test.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
STUBS := $(VENV)/micropython-stubs
BLINKA := $(VENV)/blinka-drivers
COMPILE := uv pip compile --universal --generate-hashes --python-version 3.11 --no-emit-index-url --no-emit-find-links --no-annotate --no-header
TEST_PACKAGES := chromium:chromium dbus:dbus-daemon fuse3:fusermount3 libjpeg-turbo-progs:jpegtran mosquitto:mosquitto \
	postgresql:pg_ctlcluster erlang-p1-pgsql:/usr/share/doc/erlang-p1-pgsql/copyright
ROOMS := calibration center cruisers drivers firmware fleet gateway hub logbook sim sox
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
	@echo "make bench               ratios to the bare machine and to peers (PART=recording for one part)"
	@echo "make faults              every driver x every fault: the table of recoveries; non-zero exit if a cell fails (PART=bmp390, JSON=FILE)"
	@echo "make faults-uplink       bad links, lying servers, kills, a whole shift: nothing lost, doubled, deleted too early (ONLY=text, SEED, JSON=FILE)"
	@echo "make soak                an hour of the head's life in virtual time with random faults; every sample accounted for, the heap flat"
	@echo "make fuzz                10^6 register images and 10^6 byte streams into every driver"
	@echo "make crash CUTS=1000     power cuts on a file system that forgets: a table; non-zero exit if anything acknowledged is lost (SEED, JSON=FILE)"
	@echo "make brick               a head loses power at every operation of its flash while it is installed, updated, tried, rolled back (BYTES=all: every byte)"
	@echo "make flash-long          simulated heads: a byte flipped, power cut, cable out while they are flashed; twenty at once (WHAT='every 1')"
	@echo "make lock                new exact versions with hashes; make schemas: protobuf code from logbook/schemas"

demo: $(STAMP)
	@$(BIN)/cruisers demo $(if $(SECONDS),--seconds $(SECONDS)) $(if $(DRIVE),--drive "$(DRIVE)") $(if $(TRUCK),--truck "$(TRUCK)") $(if $(JSON),--json "$(JSON)")

# What needs no test to run, on both cores at once; then the tests.
test: $(STAMP) debian-test
	@$(MAKE) --no-print-directory -j2 --output-sync types lint arrows $(COMPILED)
	@$(MAKE) --no-print-directory unit

# The tests' bytecode (pytest rewrites their asserts) and the rooms', written once: where the environment forbids bytecode, or the tests are
# new, each of the workers and each of the processes that the tests start would compile it for itself, 10 s of CPU for each worker.
unexport PYTHONDONTWRITEBYTECODE
COMPILED := .pytest_cache/.compiled
$(COMPILED): $(STAMP) $(wildcard tests/*.py tests/*/*.py $(ROOMS:=/*.py) $(ROOMS:=/*/*.py))
	@$(BIN)/python -m compileall -q $(ROOMS)
	@$(BIN)/pytest --collect-only -qq > /dev/null || true  # what is wrong there is said when the tests run
	@mkdir -p $(@D) && touch $@

# Debian splits venv off from python3: its package is missing where it cannot be imported.
VENV_PACKAGE := $(shell $(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || echo python3-venv:no-such-command)
DEMO_PACKAGES := $(VENV_PACKAGE) ejabberd:ejabberdctl gpsd:gpsd
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --retries 1
NO_PACKAGES := { echo "make: could not install the Python packages (is there a network? pip's own words are above)" >&2; exit 2; }

.PHONY: debian-demo debian-test
debian-demo:
	@sh ./install-packages.sh $(DEMO_PACKAGES)
debian-test: debian-demo
	@sh ./install-packages.sh $(TEST_PACKAGES)

# The virtual environment is rebuilt from the lock whenever the lock or the project's metadata changes. A half-made one is made anew.
$(STAMP): requirements.lock requirements-stubs.lock requirements-blinka.lock pyproject.toml | debian-demo
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make: $(PYTHON) is older than 3.11; name a newer one: make PYTHON=python3.11 ..." >&2; exit 2; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv --clear $(VENV)
	@echo "installing the locked Python packages into $(VENV) ..." >&2
	@$(PIP) --require-hashes -r requirements.lock || $(NO_PACKAGES)
	@$(PIP) --no-deps --no-build-isolation --no-index -e .
	@rm -rf $(STUBS)
	@$(PIP) --require-hashes --target $(STUBS) -r requirements-stubs.lock || $(NO_PACKAGES)
	@rm -rf $(BLINKA)
	@$(PIP) --require-hashes --target $(BLINKA) -r requirements-blinka.lock || $(NO_PACKAGES)
	@$(BIN)/python -m compileall -q $(ROOMS)
	@touch $@

lint: $(STAMP)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

# Twice: MicroPython's stubs shadow the standard library (time has ticks_ms there), so the rooms that run on the head get a run of their own.
types: types-host types-head
.PHONY: types-host types-head
types-host: $(STAMP)
	@$(BIN)/mypy
types-head: $(STAMP)
	@$(BIN)/mypy --config-file mypy-micropython.ini

arrows: $(STAMP)
	@$(BIN)/lint-imports

# More than half of the tests' time is waiting: four at a time keep two cores busy. The whole way, and chips in real time over whole shifts, run
# after them: a FIFO of 0.2 s is not to wait for the tests' computing. One demo takes half a core: two run beside each other, and one of the shifts.
#
# Many of them are about real time (a FIFO that overflows after 0.2 s, a ring of 20 s), and a shared machine now and then stands still for longer.
# Up to REPEATED tests that failed beside others are said and run once more, alone: that decides. One that fails alone has failed, more than
# REPEATED are no accident, and what ended otherwise than by failing tests is not repeated at all.
REPEATED := 3
define TESTED
	@rm -f .pytest_cache/v/cache/lastfailed
	@$(BIN)/pytest $(1) -m $(2) || { \
		code=$$?; test $$code -eq 1 || exit $$code; \
		$(BIN)/python -c 'import json, sys; sys.exit(len(json.load(open(".pytest_cache/v/cache/lastfailed"))) > $(REPEATED))' || exit 1; \
		echo "make: these failed beside others, each is run once more, alone:"; \
		$(BIN)/pytest --last-failed --last-failed-no-failures none -m $(2) -v; }
endef
unit: $(STAMP) $(COMPILED)
	$(call TESTED,-n 4 --dist worksteal,"not e2e and not clock")
	$(call TESTED,-n 3 --dist loadgroup,"e2e or clock")

schemas: $(STAMP)
	@$(BIN)/python -m logbook.schemas.generate

lock:
	$(COMPILE) pyproject.toml --group dev -o requirements.lock
	$(COMPILE) --group micropython-stubs -o requirements-stubs.lock
	$(COMPILE) --group blinka-drivers -o requirements-blinka.lock

bench: $(STAMP)
	@$(BIN)/python -m bench $(PART)

# Each driver x each fault in virtual time, aimed at every kind of transfer and byte: eleven minutes of CPU.
.PHONY: faults
faults: $(STAMP)
	@PYTHONPATH=tests/support $(BIN)/python tests/support/fault_matrix.py $(if $(PART),--part "$(PART)") $(if $(JSON),--json > "$(JSON)")

# Real hub, center, uplink and sweeper behind a hostile link and web server (docs/uplink-faults.md): ten minutes, mostly waiting.
.PHONY: faults-uplink
faults-uplink: $(STAMP) debian-test
	@PYTHONPATH=tests/support $(BIN)/python tests/support/uplink_faults.py $(if $(ONLY),--only "$(ONLY)") $(if $(SEED),--seed $(SEED)) $(if $(JSON),--json > "$(JSON)")

# An hour of the head's life (SECONDS=...) takes about ten minutes of CPU, the fuzzers half an hour.
.PHONY: soak fuzz
soak: $(STAMP)
	@PYTHONPATH=tests/support:tests/soak $(BIN)/python tests/soak/soak.py $(if $(SECONDS),--seconds $(SECONDS))
fuzz: $(STAMP)
	@PYTHONPATH=tests/support:tests/fuzz $(BIN)/python tests/fuzz/fuzz.py

# A thousand cuts take some ten minutes on two cores; the long form of the other ways to lose data (kill -9, a full disk, bits) as long again.
.PHONY: crash
crash: $(STAMP) debian-test
	@PYTHONPATH=tests/support $(BIN)/python tests/support/crash.py $(if $(CUTS),--cuts $(CUTS)) $(if $(SEED),--seed $(SEED)) $(if $(JSON),--json > "$(JSON)")
	@CRASH_LONG=1 $(BIN)/pytest tests/crash

# Every operation on the flash x {0, 1, half, all but 1} of its bytes, of a small program and of the head's own (PROGRAM=small, head for one):
# docs/updates.md has the times. BYTES=all cuts after every byte.
.PHONY: brick
brick: $(STAMP)
	@PYTHONPATH=tests/support $(BIN)/python tests/support/brick.py $(if $(BYTES),--bytes $(BYTES)) $(if $(PROGRAM),--program $(PROGRAM)) $(if $(SEED),--seed $(SEED))

# Simulated heads on the real MicroPython: a flipped byte, a cut, an unplugged cable in the middle of flashing; twenty of them at once.
# WHAT="flips 60" (60 of each kind of run), "every 1" (every byte of a session), "cuts 1" (at every command), "units 20": docs/updates.md.
.PHONY: flash-long
flash-long: $(STAMP)
	@$(BIN)/python tests/support/flash_long.py $(WHAT)

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
