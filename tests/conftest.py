from __future__ import annotations

import os
from collections.abc import Generator

import pytest

FAIL_ON_SKIP_VARIABLE = "STILLHOUSE_FAIL_ON_SKIP"


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
