# What can be done here: `make`. Every target sets up what it needs.

PYTHON ?= python3
EXTRA ?=
WORKERS ?= 0
VENV := .venv/bin
ENVIRONMENT := $(PYTHON) tools/environment.py

# Without bytecode every worker process compiles all modules anew: 20 s to start instead of 8
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint types bench faults docs constraints clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup:  ## install everything into .venv (EXTRA=gpu or EXTRA=cpu adds vLLM)
	@$(ENVIRONMENT) dev $(EXTRA)

demo:  ## train on a local cluster, kill a node in the middle, see it finish all the same
	@$(ENVIRONMENT) demo
	@$(VENV)/python jobs/demo.py

test:  ## all tests (ARGS="-k storage" for some; WORKERS=2: in two processes side by side)
	@$(ENVIRONMENT) dev cpu
	@$(VENV)/python -m pytest -n $(WORKERS) --no-loadscope-reorder $(ARGS)

lint:  ## style and formatting
	@$(ENVIRONMENT) dev
	@$(VENV)/ruff check
	@$(VENV)/ruff format --check

types:  ## mypy --strict
	@$(ENVIRONMENT) dev
	@$(VENV)/mypy

bench:  ## each benchmark beside its bare peer
	@$(ENVIRONMENT) dev cpu bench
	@$(VENV)/python benchmarks/render.py
	@$(VENV)/python benchmarks/batch.py
	@$(VENV)/python benchmarks/serve.py
	@$(VENV)/python benchmarks/train.py
	@$(VENV)/python benchmarks/stream.py
	@$(VENV)/python benchmarks/stream_kafka.py
	@$(VENV)/python benchmarks/stream_recovery.py

faults:  ## only the tests that kill, cut and damage
	@$(ENVIRONMENT) dev cpu
	@EKSML_KILLS=20 $(VENV)/python -m pytest tests/faults $(ARGS)

docs:  ## run every snippet of the documents
	@$(ENVIRONMENT) dev cpu
	@$(VENV)/python -m pytest tests/test_docs.py $(ARGS)

constraints:  ## pin the newest versions that fit together (constraints.txt)
	@$(ENVIRONMENT) dev
	@$(PYTHON) tools/constraints.py

clean:  ## remove .venv, caches and runs/
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis runs dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
