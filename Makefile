# Two commands: `make run ARGS="model=nbglm data=norman_mini"` and `make test`. Both install what they need into .venv.
# SEED=3 chooses other slow tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
LOCK := .ci/constraints.txt
ARGS ?=
SEED ?=
PATHS ?= pure
N ?= 150
PYTEST := $(BIN)/python -m pytest -n 2 --dist worksteal

.PHONY: run install test test-fast test-all mutants lint format types help
.DEFAULT_GOAL := help

help: ## say what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

run: $(VENV)/.run ## run an experiment: make run ARGS="model=nbglm data=norman_mini"
	@$(BIN)/python -m pertexp.run $(ARGS)

install: $(VENV)/.test ## install everything, the test tools too

test: $(VENV)/.test ## run the tests, of the slow ones a tenth: make test SEED=3 chooses others
	@$(PYTEST) --slow=tenth $(if $(SEED),--slow-seed=$(SEED))

test-fast: $(VENV)/.test ## run the fast tests alone (two minutes)
	@$(PYTEST) -m "not slow and not medium"

test-all: $(VENV)/.test ## run all tests
	@$(PYTEST)

mutants: $(VENV)/.test ## see how many mutations the tests notice: make mutants PATHS=wiring N=60 SEED=0
	@$(BIN)/python -m benchmarks.mutants $(PATHS) --n $(N) --seed $(or $(SEED),0)

lint: $(VENV)/.test ## ruff
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

format: $(VENV)/.test ## rewrite in the project's format
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

types: $(VENV)/.test ## mypy
	@$(BIN)/mypy

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if v >= (3, 11) else f"pertexp needs Python 3.11 or newer, found {v[0]}.{v[1]}: type make run PYTHON=python3.11")'
	@$(PYTHON) -m venv $(VENV)
	@touch $@

# torch first and by itself: the pin decides which build the others find.
$(VENV)/.run: $(VENV)/.made pyproject.toml $(LOCK)
	@echo "installing locked versions into $(VENV) (once)"
	@$(PIP) install --quiet --progress-bar off "$$(grep '^torch==' $(LOCK))"
	@$(PIP) install --quiet --progress-bar off --constraint $(LOCK) --editable .
	@touch $@

$(VENV)/.test: $(VENV)/.run
	@echo "installing the test tools into $(VENV) (once)"
	@$(PIP) install --quiet --progress-bar off --constraint $(LOCK) --editable '.[dev,check]'
	@touch $@
