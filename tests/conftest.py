from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import hypothesis
import pytest

from tests.effort import IS_QUICK, QUICK_EXAMPLES
from tests.postgresql import PostgreSQL, run_postgresql

FAIL_ON_SKIP_VARIABLE = "STILLHOUSE_FAIL_ON_SKIP"

# No example has a deadline: a busy machine, or measuring coverage, must not fail a test.
hypothesis.settings.register_profile("whole", deadline=None)
# For `make check`: a fifth of the examples finds most of what the last change broke.
hypothesis.settings.register_profile("quick", deadline=None, max_examples=QUICK_EXAMPLES)
hypothesis.settings.load_profile("quick" if IS_QUICK else "whole")

UNIT_TESTS = Path(__file__).parent / "unit"


@pytest.fixture(scope="session")
def postgresql():
    """A PostgreSQL cluster; each test uses a database of its own."""
    with run_postgresql() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """The storage of the test's own ledger: first a file, then a database."""
    if request.param == "sqlite":
        return tmp_path / "ledger.db"
    server: PostgreSQL = request.getfixturevalue("postgresql")
    return server.empty_ledger()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """
    Puts the longest tests first, and measures coverage by unit tests that run their lines once.

    Python 3.11 traces line by line, which doubles the time of what computes much.
    """
    items.sort(key=lambda item: "test_state_machine" not in item.nodeid)
    for item in items:
        if not item.path.is_relative_to(UNIT_TESTS) or _repeats_itself(item):
            item.add_marker("no_cover")


def _repeats_itself(item: pytest.Item) -> bool:
    """Tells whether hypothesis runs a test many times."""
    test = getattr(item, "obj", None)
    return getattr(test, "is_hypothesis_test", False) or "test_state_machine" in item.nodeid


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where nothing may be missing, a skipped test is a failed one."""
    report = yield
    if report.skipped and os.environ.get(FAIL_ON_SKIP_VARIABLE):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, and nothing may be: {report.longrepr}"
    return report
