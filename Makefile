# Two commands do all the set-up: `make demo` and `make test`. Each makes or updates .venv by itself.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
RUN := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed

.PHONY: demo test check format install clean

## demo: the whole line on generated street scenes; DATA=cvat-export VIDEO=clip.mp4 for your own
demo: $(INSTALLED)
	$(RUN) -m segkit demo $(if $(DATA),--data "$(DATA)") $(if $(VIDEO),--video "$(VIDEO)")

## test: every test that this machine can run; what it cannot is skipped with the reason
test: $(INSTALLED)
	$(RUN) -m pytest --numprocesses 2 --dist worksteal

## check: lint, format, types, architecture
check: $(INSTALLED)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(RUN) -m pytest -q tests/test_architecture.py

format: $(INSTALLED)
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

install: $(INSTALLED)

$(INSTALLED): requirements.txt requirements-dev.txt constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
	  { echo "segkit needs Python 3.11; '$(PYTHON)' is another. Give it: make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "installing into $(VENV) (2.3 GB, a minute or two)"
	@test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	@$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt -c constraints.txt
	@$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps -e . -c constraints.txt
	@$(RUN) -m pip check
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
