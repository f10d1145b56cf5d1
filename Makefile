# make demo, make test: all the set-up on a fresh machine with Python 3.11+ and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-systemd bench lint install uninstall clean
export DESTDIR PREFIX SYSTEM_PYTHON EXTRAS PIP_FLAGS SUITE
.DEFAULT_GOAL := test

$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "omrwatchd needs Python 3.11 or newer; name one with: make PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: $(VENV)/.installed
	@$(BIN)/omrwatchd demo

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/python -m pytest

# As root, on Debian or Ubuntu: the service in a booted container. Six minutes; the first time two more, for a
# Debian tree and wheels, which stay in ~/.cache/omrwatchd-systemd. SUITE=bookworm: in an older Debian.
test-systemd: $(VENV)/.installed
	@$(BIN)/python -m tests.systemd.needs
	$(BIN)/python -m pytest --numprocesses=0 --timeout=900 -x -v -s --durations=0 --durations-min=3 \
		tests/systemd/booted.py tests/systemd/documented.py tests/systemd/leaving.py

# Half an hour and 8 GB of disk; the long lines need root. One of them alone: python -m benchmarks.upload --help
bench: $(VENV)/.installed
	$(BIN)/python -m benchmarks

install uninstall:
	@deploy/install.sh $@

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
