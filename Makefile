# Two commands: `make demo` shows three nights, `make test` runs the whole suite. Both make .venv with the locked versions first.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test check bench lock clean

demo: $(VENV)/.installed
	$(BIN)/python examples/demo.py demo-home

test: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n auto --dist loadgroup

bench: $(VENV)/.installed
	$(BIN)/python benchmarks/nights.py

# Debian splits venv from Python; where it is missing and this is root, it is installed.
$(VENV)/.installed: requirements.lock setup.cfg
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11"; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { test "$$(id -u)" = 0 && apt-get update -q && apt-get install -qy python3-venv; } \
		|| { echo "Python's venv is missing: apt-get install python3-venv"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

# The exact versions of everything, for `make` and for packagers; run it after a change of setup.cfg.
lock:
	$(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet --editable '.[test]'
	build/lock/bin/python -m pip freeze --all --exclude-editable | grep -v "^pip==" > requirements.lock

clean:
	rm -rf $(VENV) build dist demo-home *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
