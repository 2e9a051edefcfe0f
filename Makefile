VENV ?= .venv
PYTHON ?= python3
BIN = $(VENV)/bin
READY = $(VENV)/.ready

.PHONY: setup demo test test-slow lint types docs bench clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt "torch==2.13.0"
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $(READY)

demo: setup
	$(BIN)/blankcheck demo --out runs/demo --overwrite

test: setup
	$(BIN)/python -m pytest

test-slow: setup
	$(BIN)/python -m pytest -m "slow or not slow"

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

docs: setup
	$(BIN)/python docs/commands.py
	$(BIN)/python docs/schema.py
	$(BIN)/sphinx-build -E -W --keep-going -q -b html docs docs/_build/html

bench: setup
	$(BIN)/python benchmarks/search.py --cache build/networks
	$(BIN)/python benchmarks/main_job.py
	$(BIN)/python benchmarks/ood.py
	$(BIN)/python benchmarks/honesty.py
	$(BIN)/python benchmarks/hardening.py
	$(BIN)/python benchmarks/gate_bound.py

clean:
	rm -rf $(VENV) build dist docs/_build .mypy_cache .ruff_cache .pytest_cache .hypothesis
