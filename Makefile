# make demo, make test: all the set-up on a fresh machine with Python 3.11+ and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-systemd lint install uninstall clean
export DESTDIR PREFIX SYSTEM_PYTHON EXTRAS PIP_FLAGS
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

# a real systemd in a container; says what it needs
test-systemd: $(VENV)/.installed
	OMRWATCHD_TEST_SYSTEMD=1 $(BIN)/python -m pytest -n 0 -s -v --timeout=1800 tests/systemd

install uninstall:
	@deploy/install.sh $@

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
