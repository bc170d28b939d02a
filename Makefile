# sockd: `make` alone prints the targets. Needs python3 (3.11 or newer, with venv) and make; the rest comes by pip,
# pinned by hash, into .venv. Nothing is written outside this checkout.

PYTHON ?= python3
BIN := .venv/bin
RUN_READY := .venv/.ready-to-run
TEST_READY := .venv/.ready-to-test
BENCH_READY := .venv/.ready-to-bench
PYTEST_ARGS ?=
# Coverage doubles the time that the tests take: it is for those who look at its report, and for CI.
COVERAGE ?=
export COVERAGE
pytest: export COVERAGE_FILE := $(CURDIR)/.coverage-data/.coverage

# pip's caches and temporary files stay in the checkout too; the compiled modules make the second start quick.
PIP := env -u PYTHONDONTWRITEBYTECODE PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 TMPDIR="$(CURDIR)/.venv/tmp" \
	$(BIN)/python -m pip -qq
LOCKED := install --require-hashes --no-deps
# $(call step,WHAT,COMMAND) runs a command that may take long: says what it does, and then how many seconds it took.
step = @printf '  %s ... ' "$(1)"; began=$$(date +%s); $(2) && echo "$$(($$(date +%s) - began)) s"
DIRECTORIES := RUNTIME_DIRECTORY="$(CURDIR)/.sockd/run" LOGS_DIRECTORY="$(CURDIR)/.sockd/log"

.DEFAULT_GOAL := help
.PHONY: help run test lint format types imports pytest slow fuzz soak docs hostile bench bench-check lock wheel clean
.DELETE_ON_ERROR:
.NOTPARALLEL:

help:  ## print the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

run: $(RUN_READY)  ## serve config/sockd.yaml on this machine; Ctrl-C stops it
	@mkdir -p .sockd/run .sockd/log
	@$(DIRECTORIES) exec $(BIN)/twistd -n --pidfile= sockd -c config/sockd.yaml

test: lint types imports pytest  ## rules, types, imports and all tests but the slow ones

lint: $(TEST_READY)  ## ruff: rules and format
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: $(TEST_READY)  ## let ruff fix what it can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

types: $(TEST_READY)  ## mypy, strict
	$(BIN)/mypy

imports: $(TEST_READY)  ## the contract of the floors
	$(BIN)/lint-imports --no-cache

pytest: $(TEST_READY)  ## the tests (COVERAGE=1: with coverage, the daemons that they start included; PYTEST_ARGS=…)
	rm -rf .coverage-data
	mkdir -m 1777 .coverage-data
	.ci/pytest $(PYTEST_ARGS)
ifdef COVERAGE
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report
	$(BIN)/coverage json --quiet -o .coverage-data/coverage.json
	$(BIN)/python .ci/branches.py .coverage-data/coverage.json .coverage-data/*.xml
endif

slow: $(TEST_READY)  ## the tests that `make test` leaves out: attacks, installations, Twisted's own (PYTEST_ARGS=…)
	$(BIN)/python -m pytest -m slow $(PYTEST_ARGS)

fuzz: $(TEST_READY)  ## look for inputs that break a parser (SECONDS=60 in all, TARGETS=…)
	$(BIN)/python -m tests.fuzz --seconds $(or $(SECONDS),60) $(TARGETS)

soak: $(TEST_READY)  ## use, attack, reload and upgrade a daemon for SECONDS=120, and account for every byte (SEED=…)
	$(BIN)/python -m tests.soak --seconds $(or $(SECONDS),120) $(if $(SEED),--seed $(SEED))

docs: $(RUN_READY)  ## write what is made from the model: the reference page and the JSON Schema
	$(BIN)/python -m sockd.reference docs/configuration.md
	$(BIN)/sockd schema >config/sockd.schema.json

hostile: $(TEST_READY)  ## all attacks in full, ten minutes: how long other clients wait, and what an attack costs (PYTEST_ARGS=…)
	HOSTILE=full $(BIN)/python -m pytest --timeout=600 tests/hostile $(PYTEST_ARGS)

bench: $(BENCH_READY)  ## measure sockd and its peers, 12 minutes (ONLY=tcp,unix,…  QUICK=1  BENCH_ARGS=…)
	$(BIN)/python -m benchmarks $(if $(ONLY),--only $(ONLY)) $(if $(QUICK),--quick) $(BENCH_ARGS)

bench-check: $(TEST_READY)  ## count system calls and instructions against benchmarks/bounds.json (ONLY=tcp  RECORD=1)
	$(BIN)/python -m benchmarks.check $(if $(ONLY),--only "$(ONLY)") $(if $(RECORD),--record)

# uv finds one set of versions for all Pythons and platforms that pyproject.toml allows.
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-annotate --no-header --upgrade
lock: $(TEST_READY)  ## choose the newest versions anew and pin them, with their hashes, in .ci/*.txt
	$(LOCK) pyproject.toml --group build --output-file .ci/requirements.txt
	$(LOCK) pyproject.toml --group build --group test --constraints .ci/requirements.txt --output-file .ci/requirements-test.txt
	$(LOCK) pyproject.toml --group bench --constraints .ci/requirements.txt --output-file .ci/requirements-bench.txt
	$(LOCK) --group conformance --constraints .ci/requirements.txt --output-file .ci/requirements-conformance.txt \
		$$(sed -n 's/^\([a-z0-9-]*\)==.*/--no-emit-package=\1/p' .ci/requirements.txt)  # they are in .venv

wheel: $(TEST_READY)  ## build dist/*.whl
	$(BIN)/python -m build --no-isolation --wheel

clean:  ## remove what the other targets made
	rm -rf .venv .sockd benchmarks/.build .coverage-data .mypy_cache .pytest_cache .ruff_cache .fuzz .hypothesis dist

$(RUN_READY): .ci/requirements.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "sockd needs Python 3.11 or newer: no $(PYTHON) here (make PYTHON=…)" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "sockd needs Python 3.11 or newer: $(PYTHON) is $$($(PYTHON) -V 2>&1) (make PYTHON=…)" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
		{ echo "sockd needs Python's venv: install it (Debian: apt install python3-venv)" >&2; exit 1; }
	@echo "Setting up .venv, once; it takes a minute or so:"
	$(call step,1 of 4: the environment,$(PYTHON) -m venv .venv && mkdir -p .venv/tmp)
	$(call step,2 of 4: the packages that sockd needs,$(PIP) $(LOCKED) --requirement .ci/requirements.txt)
	$(call step,3 of 4: sockd itself,$(PIP) install --no-deps --no-build-isolation --editable .)
	$(call step,4 of 4: the plugins that twistd finds,$(BIN)/twistd --help >/dev/null)
	@touch $@

$(TEST_READY): .ci/requirements-test.txt .ci/requirements-conformance.txt $(RUN_READY)
	@echo "Adding the tests' tools to .venv, once:"
	$(call step,1 of 2: the tools,$(PIP) $(LOCKED) --requirement .ci/requirements-test.txt)
	$(call step,2 of 2: what Twisted's own tests need,$(PIP) $(LOCKED) --requirement .ci/requirements-conformance.txt \
		--upgrade --target .venv/conformance)
	@touch $@

$(BENCH_READY): .ci/requirements-bench.txt $(TEST_READY)
	@echo "Adding the benchmark's peers to .venv, once:"
	$(call step,1 of 1: the peers,$(PIP) $(LOCKED) --requirement .ci/requirements-bench.txt)
	@touch $@
