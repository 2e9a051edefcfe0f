VENV ?= .venv
WINDOWS = $(filter Windows_NT,$(OS))
PYTHON ?= $(if $(WINDOWS),python,python3)
BIN = $(VENV)/$(if $(WINDOWS),Scripts,bin)
READY = $(VENV)/.ready
# the pinned versions; with other words, the newest or the lowest that pyproject.toml allows (CONTRIBUTING.md)
INSTALL ?= $(BIN)/python -m pip install --quiet --constraint constraints.txt

.PHONY: help setup demo test test-slow lint types docs wheel release-check bench clean

help:
	@echo "make setup      a virtual environment in $(VENV), with blankcheck and all its tools"
	@echo "make demo       the main job on small data; prints the path of the report"
	@echo "make test       all tests but the slow ones; make test-slow: those, too"
	@echo "make lint       ruff; make types: mypy"
	@echo "make docs       the documentation, in docs/_build/html"
	@echo "make wheel      what is published, in dist; tried in an empty environment"
	@echo "make bench      the measurements, hours; make clean: removes what make made"

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@echo "Setting up $(VENV): blankcheck, PyTorch, and the tools of its tests and documentation."
	@echo "Downloads about 0.5 GB (2 GB on disk); on Linux 3.3 GB, because PyTorch brings CUDA. Without it:"
	@echo "    make setup PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu"
	@echo "Once, for some minutes. Nothing is written outside of this folder but pip's cache."
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) --editable ".[dev]"
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

wheel: setup
	rm -rf dist
	$(BIN)/python -m hatchling build
	$(BIN)/python -m pytest -n 0 -m slow tests/house/test_wheel.py

# before a tag: that the version, the tag and the changelog agree; prints the notes of the release
release-check: setup
	$(BIN)/python .ci/release.py "$(TAG)"

bench: setup
	$(BIN)/python benchmarks/search.py --cache build/networks
	$(BIN)/python benchmarks/main_job.py
	$(BIN)/python benchmarks/ood.py
	$(BIN)/python benchmarks/honesty.py
	$(BIN)/python benchmarks/hardening.py
	$(BIN)/python benchmarks/gate_bound.py

clean:
	rm -rf $(VENV) build dist docs/_build docs/api .mypy_cache .ruff_cache .pytest_cache .hypothesis
