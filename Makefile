# Every target does its own set-up: a virtual environment in .venv with pinned versions.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SERVICE_SIDE := tests/service tests/e2e tests/chaos

.PHONY: help install demo serve test test-training test-service chaos lint clean
.DEFAULT_GOAL := help

help:  ## Show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[all,dev]'
	touch $(STAMP)

install: $(STAMP)  ## Make .venv with everything in it

demo: $(STAMP)  ## Run a sweep on real data, from REST to the dashboard
	$(BIN)/adadim demo examples/digits-sweep.yaml

serve: $(STAMP)  ## Run the service and keep it up
	$(BIN)/adadim serve

test: $(STAMP)  ## Run all tests, those of the training side and of the service side at once
	@$(MAKE) --no-print-directory --jobs=2 test-training test-service

test-training: $(STAMP)
	@$(BIN)/python -m pytest tests $(SERVICE_SIDE:%=--ignore=%)

test-service: $(STAMP)
	@$(BIN)/python -m pytest $(SERVICE_SIDE)

chaos: $(STAMP)  ## Kill parts of a lab at random for five minutes and check that nothing is lost
	$(BIN)/python -m tests.chaos.run $(if $(SEED),--seed $(SEED))

lint: $(STAMP)  ## Check format, lint, types and import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:  ## Remove .venv and caches; the state directory stays
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .hypothesis .import_linter_cache
