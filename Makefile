# `demo` and `test` are the two commands of the README; CONTRIBUTING.md describes the others.
# VENV names the virtual environment, PYTHON what makes it.
VENV ?= .venv
PYTHON ?= python3

ROOM ?=

.PHONY: demo test slow lint docs coverage constraints

demo:
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install -e .
	$(VENV)/bin/clgym run nmc split-digits

test:
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install -e '.[test]'
	$(VENV)/bin/python -m pytest -q -n 2

slow:
	$(VENV)/bin/python -m pytest -q -n 2 -m slow

lint:
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install -e '.[test,dev]'
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/codespell
	$(VENV)/bin/pyright --pythonpath $(VENV)/bin/python
	PYTHON=$(VENV)/bin/python .ci/contracts

# The documentation as a site: build/site/index.html.
docs:
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install -e '.[docs]'
	$(VENV)/bin/python .ci/site/build.py

# Branch coverage by room, of one (ROOM=results) or of all, by the fast tests or by all (SLOW=1).
coverage:
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install -e '.[test]'
	rm -rf .coverage-processes && mkdir .coverage-processes
	MEASURED_PROCESSES=$(CURDIR)/.coverage-processes PYTHONPATH=$(CURDIR)/.ci/coverage \
		$(VENV)/bin/python -m pytest -q --cov --cov-report= \
		$(if $(SLOW),-m 'slow or not slow') $(if $(ROOM),tests/$(ROOM))
	$(VENV)/bin/python .ci/coverage/by_room.py --processes .coverage-processes $(ROOM)

# The versions of a fresh environment with all that the index gives today.
constraints:
	.ci/constraints >constraints.new
	mv constraints.new constraints.txt
