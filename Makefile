# Everything runs in .venv, which is made when it is missing and reused while it is up to date.
# All that a machine needs is python3.11 (with venv and pip) and make.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --progress-bar off

# What the installed environment depends on: a stamp older than one of these is made again.
SPEC := setup.cfg setup.py pyproject.toml

# How the tests are spread: two processes; tests marked xdist_group("name") stay together on one of them.
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadgroup

.DEFAULT_GOAL := help
.PHONY: help demo test lint format bench bench-quick clean

help:  ## Show what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/stamp-test  ## Three models that read digits: an ensemble and a cascade
	$(BIN)/python examples/digits.py

test: $(VENV)/stamp-test  ## Run the tests; ARGS goes to pytest, as in: make test ARGS='-k batch'
	$(PYTEST) $(ARGS)

lint: $(VENV)/stamp-lint  ## Check style, types and the direction of imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/stamp-lint  ## Rewrite the code in the house style
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(VENV)/stamp-bench  ## Run the benchmarks and write benchmarks.html; ARGS goes to them
	$(BIN)/python -m benchmarks --json benchmarks.jsonl --html benchmarks.html $(ARGS)

bench-quick: $(VENV)/stamp-bench  ## The same in under two minutes: fewer rounds, wider intervals
	$(BIN)/python -m benchmarks --quick $(ARGS)

clean:  ## Remove .venv and whatever tools left behind
	rm -rf $(VENV) build dist *.egg-info .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# One stamp for running and testing, one more for each heavier need, so that `make demo` installs no linter and
# no other library to compare with. Each is touched last: an install that failed halfway is made again.
$(VENV)/stamp-test: $(SPEC)
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) -e '.[test]'
	touch $@

$(VENV)/stamp-lint: $(VENV)/stamp-test
	$(PIP_INSTALL) -e '.[lint]'
	touch $@

$(VENV)/stamp-bench: $(VENV)/stamp-test
	$(PIP_INSTALL) -e '.[peers]'
	touch $@
