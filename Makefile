# The everyday commands; `make help` lists them.
#
# Each does all of its own set-up, once: system packages (where there is apt and the
# right to use it), a virtual environment, the build.  Settings:
#
#   PYTHON=python3.13        the Python to build for
#   VENV=.venv-313           where its virtual environment goes
#   ARGS='-k cancel -x'      more arguments for pytest, the conformance run, the demo
#   JOBS=2                   how many tests run at once
#   FASTLOOP_DEBUG=1 ...     how the extension is built: see setup.py

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
JOBS ?= 2

export PYTHON JOBS
export PIP_DISABLE_PIP_VERSION_CHECK := 1

RUN := $(VENV)/bin/python
PIP := $(RUN) -m pip -q
PYTEST := $(RUN) -m pytest -n $(JOBS)
SOURCES := setup.py pyproject.toml $(shell find src -name '*.[ch]')
MODE := DEBUG=$(FASTLOOP_DEBUG) SANITIZE=$(FASTLOOP_SANITIZE) \
    COVERAGE=$(FASTLOOP_COVERAGE) WERROR=$(FASTLOOP_WERROR) \
    PORTABLE=$(FASTLOOP_PORTABLE) CC=$(filter-out cc,$(CC)) CFLAGS=$(CFLAGS)

.PHONY: help build demo test test-all conformance leaks bench instructions sanitize \
    lint stubtest format clean FORCE
.DELETE_ON_ERROR:

help:  ## list the commands
	@sed -n 's/^\([a-z-]*\):.*## */\1:/p' Makefile | \
	    while IFS=: read -r name what; do printf '  make %-12s %s\n' "$$name" "$$what"; done

build: $(VENV)/.built  ## build the extension, in place

demo: $(VENV)/.built $(VENV)/.demo  ## a web service and an echo server, on fastloop and on asyncio
	@$(RUN) examples/demo/demo.py $(ARGS)

test: $(VENV)/.built-test  ## run the tests that need no more than Python
	$(PYTEST) $(ARGS)

test-all: $(VENV)/.built-test-programs $(VENV)/.system-services  ## run all tests; installs PostgreSQL, nginx and others
	FASTLOOP_TEST_ALL=1 $(PYTEST) $(ARGS)

conformance: $(VENV)/.built $(VENV)/.system-testsuite  ## run CPython's own tests of asyncio on fastloop
	$(RUN) -m tests.conformance -j $(JOBS) $(ARGS)
	$(RUN) -m tests.conformance -j $(JOBS) --no-debug $(ARGS)
	FASTLOOP_TLS=bio $(RUN) -m tests.conformance -j $(JOBS) test_sslproto test_ssl
	$(RUN) -m tests.conformance -j $(JOBS) --patch

leaks: $(VENV)/.built-test  ## run the tests that look for leaks
	$(PYTEST) -k leak $(ARGS)

bench: $(VENV)/.built $(VENV)/.bench $(VENV)/.system-bench  ## time fastloop and others; renews docs/benchmarks.md (with ARGS: see --help)
	$(RUN) -m benchmarks $(or $(ARGS),--save docs)

instructions: $(VENV)/.built $(VENV)/.system-instructions  ## count the instructions of operations, compare with those on file
	$(RUN) -m benchmarks.instructions $(ARGS)

sanitize:  ## run the tests under AddressSanitizer and UBSan
	@scripts/sanitize.sh $(ARGS)

lint: $(VENV)/.built-test-lint  ## check style, types and structure; changes nothing
	@scripts/lint.sh $(VENV)/bin

stubtest: $(VENV)/.built-lint  ## check the types against the running code
	$(RUN) -m mypy.stubtest fastloop --ignore-disjoint-bases \
	    --allowlist tests/stubtest_allowlist.txt

format: $(VENV)/.built-lint  ## format the Python and the C
	$(VENV)/bin/ruff check --fix-only .
	$(VENV)/bin/ruff format .
	$(VENV)/bin/clang-format -i $$(find src benchmarks tests -name '*.[ch]')

clean:  ## remove all that these commands made
	rm -rf build dist .venv .venv-* *.egg-info fastloop/*.so .*_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

# --- set-up: a stamp for each thing that is done once -------------------------------

# what was asked for last: another PYTHON makes the virtual environment anew, another
# mode the extension
$(VENV)/.python: FORCE
	@mkdir -p $(@D)
	@echo '$(PYTHON)' | cmp -s - $@ || echo '$(PYTHON)' >$@

build/.mode: FORCE
	@mkdir -p $(@D)
	@echo '$(MODE)' | cmp -s - $@ || echo '$(MODE)' >$@

$(VENV)/.made: $(VENV)/.python
	@scripts/system-packages.sh build
	@echo "making $(VENV)"
	@rm -rf $(VENV)/bin $(VENV)/lib $(VENV)/.[bsd]*
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --upgrade 'setuptools>=77'
	@touch $@

$(VENV)/.built: $(VENV)/.made build/.mode $(SOURCES)
	@echo "building fastloop"
	@$(PIP) install --no-build-isolation --no-deps -e .
	@touch $@

# .built-test-lint: with what the extras "test" and "lint" of pyproject.toml list
comma := ,
$(VENV)/.built-%: $(VENV)/.made build/.mode $(SOURCES)
	@echo "building fastloop, installing what is needed to $(subst -, and ,$*)"
	@$(PIP) install --no-build-isolation -e '.[$(subst -,$(comma),$*)]'
	@touch $@ $(VENV)/.built

$(VENV)/.system-%: $(VENV)/.made
	@scripts/system-packages.sh $*
	@touch $@

$(VENV)/.bench: pyproject.toml $(VENV)/.made
	@scripts/bench-packages.sh $(RUN)
	@touch $@

$(VENV)/.demo: pyproject.toml $(VENV)/.made
	@scripts/demo-packages.sh $(RUN)
	@touch $@
