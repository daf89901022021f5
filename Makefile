# Every target does its own set-up: a virtual environment in .venv with pinned versions.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests
# One thread each, and three on two cores: tests wait more than they compute. tests/conftest.py says what stays together.
SPREAD := -n 3 --dist loadfile --no-loadscope-reorder

.PHONY: help install bundle demo serve docs test test-all test-deploy chaos screenshots lint clean
.DEFAULT_GOAL := help

help:  ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[all,dev]'
	touch $(STAMP)

install: $(STAMP)  ## Make .venv with everything in it

bundle: $(STAMP)  ## Make one archive in dist/ that installs without a network
	$(BIN)/python deploy/bundle.py

demo: $(STAMP)  ## Run a sweep on real data, from REST to the dashboard
	$(BIN)/adadim demo examples/digits-sweep.yaml

serve: $(STAMP)  ## Run the service and keep it up
	$(BIN)/adadim serve

docs: $(STAMP)  ## Build the documentation's site in build/docs
	$(BIN)/python tools/reference.py docs/reference
	$(BIN)/zensical build --strict --config-file zensical.toml
	@echo "open build/docs/index.html"

test: $(STAMP)  ## Prove what the README promises: nine minutes on two cores
	$(PYTEST) $(SPREAD) -m "not slow"

test-all: $(STAMP)  ## Run every test: half an hour on two cores
	$(PYTEST) --hypothesis-profile searching $(SPREAD) -m "not ray"
	$(PYTEST) --hypothesis-profile searching -m ray

test-deploy: $(STAMP)  ## Build, run, cut, kill and upgrade the product in containers: as root, 25 minutes
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt podman-compose
	$(BIN)/python -m tests.deploy.run $(if $(KEEP),--keep $(KEEP))

test-small: $(STAMP)  ## Run the service's tests, a file at a time, with 512 MiB and 256 descriptors each
	for file in tests/service/test_*.py; do (ulimit -d 524288 && ulimit -n 256 && \
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $$file -m "not ray and not slow" -k "not silent_connections and not readers") || [ $$? = 5 ] || exit 1; done

chaos: $(STAMP)  ## Kill parts of a lab at random for five minutes and check that nothing is lost
	$(BIN)/python -m tests.chaos.run $(if $(SEED),--seed $(SEED))

screenshots: $(STAMP)  ## Take pictures of every page, light and dark, after running the demo's sweep
	$(BIN)/python benchmarks/screenshots.py --readme

lint: $(STAMP)  ## Check format, lint, types and import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:  ## Remove .venv and caches; the state directory stays
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .hypothesis .import_linter_cache
