# Each target works on a fresh machine: `setup` makes a virtual environment of its own and installs into it.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO_STAMP := $(VENV)/.installed-core
SOURCES := pyproject.toml cas/_subtree.c cas/_subtree_lanes.h

.PHONY: setup demo test lint bench soak conformance examples clean

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(DEMO_STAMP): $(SOURCES) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable ".[opencl]"
	@touch $@

$(STAMP): $(SOURCES) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	@touch $@ $(DEMO_STAMP)

setup: $(STAMP)

demo: $(DEMO_STAMP)
	@$(BIN)/python examples/demo.py

test: $(STAMP)
	$(BIN)/python -m pytest -n auto

lint: $(STAMP)
	$(BIN)/ruff check --no-cache .
	$(BIN)/ruff format --no-cache --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP)
	$(BIN)/python -m tests.bench
	$(BIN)/python -m tests.bench_store
	$(BIN)/python -m tests.bench_ledger
	$(BIN)/python -m tests.bench_ledger_audit
	$(BIN)/python -m tests.bench_run
	$(BIN)/python -m tests.bench_verify

soak: $(STAMP)
	$(BIN)/python -m tests.soak

conformance: $(STAMP)
	$(BIN)/python -m tests.kernels.conformance --device opencl --write
	$(BIN)/python -m pytest -n auto --exhaustive

clean:
	rm -rf $(VENV) .demo build dist

# The jobs in examples/ name the arithmetic version: capture them anew when it changes.
examples: $(STAMP)
	$(BIN)/samebits job capture examples/digits.py -o examples/digits.job --embed all --store .demo/capture
