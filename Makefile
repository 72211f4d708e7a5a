# The two commands of the README. VENV names the virtual environment, PYTHON what makes it.
VENV ?= .venv
PYTHON ?= python3

.PHONY: demo test lint

demo:
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install -e .
	$(VENV)/bin/clgym run nmc split-digits

test:
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install -e '.[test]'
	$(VENV)/bin/python -m pytest -q -n 2

lint:
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install -e '.[test,dev]'
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/codespell
	$(VENV)/bin/pyright --pythonpath $(VENV)/bin/python
	PYTHON=$(VENV)/bin/python .ci/contracts
