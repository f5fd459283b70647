# Two commands: `make demo` shows three nights, `make test` runs the whole suite. Both make .venv with the locked versions first.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin

PEERS := benchmarks/.peers
SIZE ?= M
ROUNDS ?= 3

.PHONY: demo test audit check bench lock lock-peers clean

demo: $(VENV)/.installed
	$(BIN)/python examples/demo.py demo-home

test: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n auto --dist loadgroup

# Known faults in the locked versions, by pip-audit in an environment of its own. It asks the network; where nobody answers this is said, and is no failure.
audit: $(VENV)/.installed
	$(PYTHON) -m venv build/audit
	@rm -f build/audit/found.json
	@build/audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit \
		&& build/audit/bin/pip-audit --disable-pip --no-deps --requirement requirements.lock --format json --output build/audit/found.json; \
	code=$$?; test -s build/audit/found.json && exit $$code; echo "Nobody could be asked about faults: nothing was checked."

# Ours, floors and peers side by side: SIZE is M, L or XL, or S to try it; ONLY=nights or ONLY=reading prints one half;
# ONLY=sftp, uploads to ours and to OpenSSH's sshd; ONLY=crowd, 200 districts in one night.
bench: $(VENV)/.installed $(PEERS)/.installed
	@command -v sqlite3 > /dev/null || { test "$$(id -u)" = 0 && apt-get update -q && apt-get install -qy sqlite3; } \
		|| { echo "The program sqlite3 is missing: apt-get install sqlite3"; exit 2; }
	$(BIN)/python -m benchmarks --size $(SIZE) --rounds $(ROUNDS) $(if $(ONLY),--only $(ONLY))

# The peers have an environment of their own.
$(PEERS)/.installed: benchmarks/peers.lock $(VENV)/.installed
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/peers.lock
	@touch $@

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

# The same for the peers; what they share with us, such as pandas and pyarrow, they have in our versions.
lock-peers:
	$(PYTHON) -m venv build/lock-peers
	build/lock-peers/bin/python -m pip install --quiet -c requirements.lock 'dlt[postgres]' frictionless matplotlib pandas 'psycopg[binary]' pyarrow SQLAlchemy sqlite-utils
	{ echo "# The exact versions that \`make bench\` installs for the peers; written by \`make lock-peers\`."; \
		build/lock-peers/bin/python -m pip freeze --all | grep -v "^pip=="; } > benchmarks/peers.lock

clean:
	rm -rf $(VENV) $(PEERS) build dist demo-home *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
