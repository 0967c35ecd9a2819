# The two commands: `make run` serves, `make test` proves. Both set up what they need.
PYTHON ?= python3
BIN := .venv/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: run test test-slow check lint lock demo-model clean

run: .venv/run.stamp
	@$(BIN)/stillhouse serve

# Everything, on two cores: the histories of the ledger's state machine on one, all else on the other.
test: .venv/dev.stamp
	STILLHOUSE_LEDGER_EXAMPLES=500 $(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

# What takes minutes: two hundred rounds of kill -9 against a client's journal.
test-slow: .venv/dev.stamp
	STILLHOUSE_KILL_ROUNDS=200 $(BIN)/pytest tests/faults/test_kill_loop.py

# What a change is checked with before it is committed: under a minute.
check: lint
	STILLHOUSE_LEDGER_EXAMPLES=4 $(BIN)/pytest --numprocesses 2 --dist worksteal tests/unit \
	  --ignore tests/unit/billing/test_race.py -k "not postgresql"

lint: .venv/dev.stamp
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

# Rewrites the locked requirements from pyproject.toml.
lock: .venv/dev.stamp
	$(BIN)/pip install --quiet uv
	for set in run dev benchmark; do \
	  case $$set in run) groups=;; dev) groups="--group dev";; *) groups="--group dev --group benchmark";; esac; \
	  $(BIN)/uv pip compile pyproject.toml $$groups --upgrade --universal --python-version 3.11 \
	    --no-emit-index-url --no-header --quiet --output-file requirements/$$set.txt; \
	done

# Trains the demo model anew; see tools/demo_model/README.md.
demo-model:
	$(MAKE) -C tools/demo_model

clean:
	rm -rf .venv dist build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

.venv/bin/pip:
	$(PYTHON) -m venv .venv

.venv/run.stamp: requirements/run.txt pyproject.toml | .venv/bin/pip
	$(BIN)/pip install --quiet --requirement requirements/run.txt
	$(BIN)/pip install --quiet --no-deps --editable .
	@touch $@

.venv/dev.stamp: requirements/dev.txt .venv/run.stamp
	$(BIN)/pip install --quiet --requirement requirements/dev.txt
	@touch $@
