# Two commands do everything on a fresh machine: `make train` trains the tiny recipe, `make test` passes the tests.
# Both create .venv and install the tested versions into it first.
#
#   make train PIP_ARGS="--extra-index-url URL"    options for pip, such as where a smaller build of torch lies
#   make test PYTHON=python3.12                    another Python; 3.11 is the tested one

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c

PYTHON ?= $(shell command -v python3.11 || command -v python3)
PIP_ARGS ?=
RECIPE ?= recipes/tiny_islands.toml

VENV := .venv
RUN := $(VENV)/bin/python
PIP := $(RUN) -m pip install --disable-pip-version-check $(PIP_ARGS)
# What the other scripts share, or what writes no line.
NO_BENCH := check_docs islands_in_turn islands_run published_speeds fit_planner accuracy_page
BENCHES := $(filter-out $(NO_BENCH:%=bench/%.py),$(wildcard bench/*.py))
ARGS ?=

.PHONY: install train test test-full check docs $(BENCHES)

install: $(VENV)/.dev-installed

# A stamp is newer than what it was made from, so a second `make` installs nothing.
$(VENV)/.train-installed: requirements/train.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PIP) -r requirements/train.txt
	$(PIP) --no-deps --no-build-isolation --editable .
	touch $@

$(VENV)/.dev-installed: requirements/dev.txt $(VENV)/.train-installed
	$(PIP) -r requirements/dev.txt
	touch $@

train: $(VENV)/.train-installed
	$(VENV)/bin/everyflop train $(RECIPE) --new

# One thread a worker: torch's threads of several processes would wait for each other's cores.
test: check
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n auto --dist loadfile

test-full: install
	$(RUN) -m pytest -m "full or hypothesis" --hypothesis-profile=thorough $(PYTEST_ARGS)

check: install
	$(RUN) -m ruff check
	$(RUN) -m ruff format --check
	$(VENV)/bin/basedpyright
	$(VENV)/bin/lint-imports

# make bench/kernels.py ARGS="--help"    each prints one JSON line; results are appended, never edited
$(BENCHES): install
	@mkdir -p bench/results
	$(RUN) $@ $(ARGS) | tee -a bench/results/$(basename $(notdir $@)).jsonl

docs: install
	$(RUN) bench/check_docs.py
