# Two commands do everything on a fresh machine: `make quickstart` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
TOOLS := $(VENV)/.installed-dev

.PHONY: quickstart test lint type format smoke golden docs clean help

help:  ## what there is to make
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

define install
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if (3, 11) <= v < (3, 14) else f"pgolf needs Python 3.11, 3.12 or 3.13, this is {v[0]}.{v[1]}: make PYTHON=python3.12 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '$(1)'
	@touch $@
endef

$(INSTALLED): pyproject.toml pgolf/__init__.py
	$(call install,.)

$(TOOLS): pyproject.toml pgolf/__init__.py
	$(call install,.[dev])

quickstart: $(INSTALLED)  ## create .venv, install, run the main job, print its table and paths
	$(BIN)/python launch.py model=recurrent3 ttt=prequant21 seed=1337

test: $(TOOLS) lint type  ## lint, types and every test
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

lint: $(TOOLS)  ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: $(TOOLS)  ## mypy on the package
	$(BIN)/mypy

format: $(TOOLS)  ## rewrite files in ruff's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

smoke: $(INSTALLED)  ## every stage for real, in seconds
	$(BIN)/python launch.py debug=cpu tracking=none

golden: $(TOOLS)  ## compare with stored outputs of the published code: make golden FOLDER=...
	$(BIN)/python -m tests.golden $(FOLDER)

docs: $(TOOLS)  ## the documentation as a site: site/index.html; any warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:  ## remove what runs and tests have written (not .venv)
	rm -rf outputs multirun cache site .pytest_cache .mypy_cache .ruff_cache .hypothesis
