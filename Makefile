# `make demo` and `make test` need only Python 3.11 or newer, a C++ compiler and the network once.
# The environment is .venv; to use another one, say VENV=path.

PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin/python
PIP := $(RUN) -m pip --disable-pip-version-check --quiet
SOURCES := pyproject.toml setup.py
# An emulated 64-bit ARM board for the tests; its downloads (185 MB) serve all checkouts.
BOARD ?= .board
BOARD_CACHE ?= $(HOME)/.cache/tvm-probq-board

.PHONY: demo test test-kernels test-others lint format typing venv board clean
.DELETE_ON_ERROR:

demo: $(VENV)/.stamp-demo
	$(RUN) -m tvm_probq demo

# Two halves that take about as long, each on a core.
test: lint
	$(MAKE) --no-print-directory -j2 test-kernels test-others

test-kernels test-others: export PROBQ_BOARD = $(abspath $(BOARD))

test-kernels:
	$(RUN) -m pytest -q -ra tests/kernels

test-others:
	$(RUN) -m pytest -q -ra --ignore tests/kernels

lint: $(VENV)/.stamp-dev typing
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy --strict -p tvm_probq

format: $(VENV)/.stamp-dev
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

# mypy does not know of folders mapped into a package: link them into one tree, as installed.
typing:
	@rm -rf build/typing
	@mkdir -p build/typing/tvm_probq
	@ln -s $(CURDIR)/tvm_probq/* $(CURDIR)/passes $(CURDIR)/targets build/typing/tvm_probq/

venv: $(VENV)/.stamp-dev

board: $(VENV)/.stamp-venv
	tests/emulated_board/setup.sh --cache '$(BOARD_CACHE)' --python $(RUN) '$(BOARD)'

# The stamps depend on what is installed, so that nothing is installed twice.
$(VENV)/.stamp-venv:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python >= 3.11 is needed")'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.stamp-demo: $(VENV)/.stamp-venv $(SOURCES)
	$(PIP) install --editable '.[demo]'
	@touch $@

$(VENV)/.stamp-dev: $(VENV)/.stamp-venv $(SOURCES)
	$(PIP) install --editable '.[dev]'
	@touch $@ $(VENV)/.stamp-demo

clean:
	rm -rf $(VENV) .board build dist tvm_probq.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
