# `make` alone prints what can be made. Everything happens in .venv; PYTHON names the interpreter that creates it (3.11 or newer).

PYTHON ?= python3
VENV   ?= .venv
BUDGET ?= 3m
OUT    ?= quickstart
BIN    := $(VENV)/bin
BENCH   = startup generate_speed tokenizer_speed data_throughput pretrain_throughput
PIP    := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help quickstart test check docs serve-docs bench pages clean distclean

help: ## this list
	@echo "usage: make TARGET [PYTHON=python3.12] [BUDGET=10m] [OUT=folder]"
	@echo
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'

quickstart: $(VENV)/.installed ## text from this machine -> a language model of its own, in about three minutes of training
	$(BIN)/danlu quickstart --budget "$(BUDGET)" --out "$(OUT)"

test: check ## everything that must hold: check, laws, doctests, the commands in the docs (under 15 minutes on two cores)
	$(BIN)/python -m pytest -n 2 --dist worksteal

check: $(VENV)/.test-installed ## style, types and floors, in seconds
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

docs: $(VENV)/.docs-installed ## the site in ./site, both languages, every warning an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "open site/index.html"

serve-docs: $(VENV)/.docs-installed ## the site on http://127.0.0.1:8001, rebuilt as you write
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs serve --dev-addr 127.0.0.1:8001

pages: $(VENV)/.installed ## write the generated parts of docs and README anew (settings reference, measured figures)
	$(BIN)/python tools/reference.py
	$(BIN)/python tools/api_fields.py
	$(BIN)/python tools/benchmarks_table.py
	$(BIN)/python tools/scale.py
	$(BIN)/python tools/atlas.py
	$(BIN)/python tools/parity.py --pages
	$(BIN)/python tools/quickstart_output.py

bench: $(VENV)/.test-installed ## measure here and keep the figures in benchmarks/results (long; peers that are missing are said)
	@for name in $(BENCH); do \
	  echo "== $$name"; $(BIN)/python benchmarks/$$name.py || echo "   not measured: see the first lines of benchmarks/$$name.py"; done
	$(BIN)/python tools/benchmarks_table.py

clean: ## remove caches and built pages
	rm -rf site build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find src tests tools benchmarks examples -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## also remove .venv (models and data you made stay)
	rm -rf $(VENV)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Danlu needs Python 3.11 or newer; this is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

# A stamp per set of packages: nothing is installed twice until the lists of packages change.
$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --editable '.[serve]'
	@touch $@

$(VENV)/.test-installed: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --editable '.[test]'
	@touch $@ $(VENV)/.installed

$(VENV)/.docs-installed: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --editable '.[docs]'
	@touch $@ $(VENV)/.installed
