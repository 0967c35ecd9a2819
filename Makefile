# The two commands: `make run` serves, `make test` proves. Both set up what they need.
PYTHON ?= python3
# Histories of the ledger's state machine in `make test`; CI tries more.
LEDGER_EXAMPLES ?= 60
BIN := .venv/bin
COVERAGE_FLOOR := 90
CLIENTS := tests/clients/node
NPM := .venv/clients/bin/npm --prefix $(CLIENTS) --ignore-scripts --no-audit --no-fund
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: run test coverage test-slow audit check lint hooks docs lock list-clients demo-model demo-tools-model clean

run: .venv/run.stamp
	@$(BIN)/stillhouse serve

# Everything, on two cores: the histories of the ledger's state machine on one, all else on the other.
# Coverage goes into build/coverage and build/coverage.xml.
test: .venv/dev.stamp .venv/clients.stamp .venv/schemathesis.stamp
	STILLHOUSE_LEDGER_EXAMPLES=$(LEDGER_EXAMPLES) $(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder \
	  --cov --cov-report=html --cov-report=xml

# What the last `make test` covered. It fails below the floor: a point under what was reached on 2026-11-30.
coverage:
	$(BIN)/coverage report --skip-covered --sort cover --fail-under $(COVERAGE_FLOOR)

# What takes minutes: two hundred rounds of kill -9 against a client's journal, and whatever bodies
# schemathesis thinks of; then the audit.
test-slow: .venv/dev.stamp .venv/schemathesis.stamp
	STILLHOUSE_KILL_ROUNDS=200 STILLHOUSE_DESCRIBED_EXAMPLES=100 \
	  $(BIN)/pytest tests/faults/test_kill_loop.py tests/described
	$(MAKE) audit

# Known vulnerabilities of what requirements/ locks. It needs PyPI itself: a mirror does not know them.
audit: .venv/audit.stamp
	.venv/audit/bin/python tools/audit_requirements.py

# What a change is checked with before it is committed: under a minute.
check: lint
	STILLHOUSE_QUICK=1 STILLHOUSE_LEDGER_EXAMPLES=4 $(BIN)/pytest --numprocesses 2 --dist worksteal tests/unit \
	  --ignore tests/unit/billing/test_race.py --ignore-glob 'tests/unit/engines/openvino/test_*ing_runner.py' \
	  -k "not postgresql"

lint: .venv/dev.stamp
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

# Runs the checks of .pre-commit-config.yaml before each commit.
hooks: .venv/dev.stamp
	$(BIN)/pre-commit install

# The documentation as a site, in build/site. With --quiet, --strict would count no warnings.
docs: .venv/docs.stamp
	NO_MKDOCS_2_WARNING=1 .venv/docs/bin/mkdocs build --strict

# Rewrites the locked requirements from pyproject.toml; `make list-clients` then says what still works.
lock: .venv/dev.stamp .venv/clients.stamp
	$(BIN)/pip install --quiet uv
	for set in run dev benchmark container clients schemathesis docs audit; do \
	  case $$set in \
	    run) what="pyproject.toml";; \
	    container) what="pyproject.toml --extra postgresql";; \
	    dev) what="pyproject.toml --group dev";; \
	    benchmark) what="pyproject.toml --group dev --group benchmark";; \
	    clients|schemathesis|docs|audit) what="--group $$set";; \
	  esac; \
	  $(BIN)/uv pip compile $$what --upgrade --universal --python-version 3.11 \
	    --no-emit-index-url --no-header --quiet --output-file requirements/$$set.txt; \
	done
	$(NPM) update --package-lock-only --omit-lockfile-registry-resolved

# Tries every client that docs/clients.md lists, and writes down there what was tried.
list-clients: .venv/dev.stamp .venv/clients.stamp
	$(BIN)/python tools/list_clients.py

# Trains a demo model anew; see tools/demo_model/README.md and tools/demo_tools_model/README.md.
demo-model:
	$(MAKE) -C tools/demo_model

demo-tools-model:
	$(MAKE) -C tools/demo_tools_model

clean:
	rm -rf .venv tests/clients/node/node_modules dist build .coverage .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

.venv/bin/pip:
	$(PYTHON) -m venv .venv

.venv/run.stamp: requirements/run.txt pyproject.toml | .venv/bin/pip
	$(BIN)/pip install --quiet --requirement requirements/run.txt
	$(BIN)/pip install --quiet --no-deps --editable .
	@touch $@

.venv/dev.stamp: requirements/dev.txt .venv/run.stamp
	$(BIN)/pip install --quiet --requirement requirements/dev.txt
	@touch $@

# Other people's clients, apart from ours; Node comes from PyPI as well. What cannot be installed is
# left out: its tests are skipped, and the next `make test` tries again.
.venv/clients.stamp: requirements/clients.txt $(CLIENTS)/package-lock.json | .venv/bin/pip
	$(PYTHON) -m venv .venv/clients
	-.venv/clients/bin/pip install --quiet --no-deps --no-compile --requirement requirements/clients.txt \
	  && $(NPM) ci --loglevel error \
	  && touch $@

# It has a pytest of its own.
.venv/schemathesis.stamp: requirements/schemathesis.txt | .venv/bin/pip
	$(PYTHON) -m venv .venv/schemathesis
	-.venv/schemathesis/bin/pip install --quiet --no-deps --no-compile --requirement $< && touch $@

.venv/docs.stamp .venv/audit.stamp: .venv/%.stamp: requirements/%.txt | .venv/bin/pip
	$(PYTHON) -m venv .venv/$*
	.venv/$*/bin/pip install --quiet --no-deps --no-compile --requirement $<
	@touch $@
