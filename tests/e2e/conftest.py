from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from stillhouse.app.services import open_services
from tests.e2e.running_server import RunningServer, run_server, verify_ledger
from tests.ledger_audit import audit_differences


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server without a configuration; its ledger must be consistent at the end."""
    home = tmp_path_factory.mktemp("home") / "state"
    with run_server(home) as running:
        yield running
    asyncio.run(assert_ledger_is_right(home))


@pytest.fixture(autouse=True)
def _every_test_is_a_billing_test(request: pytest.FixtureRequest) -> Iterator[None]:
    """Verify the shared server's ledger after each test."""
    yield
    if "server" in request.fixturenames:
        asyncio.run(verify_ledger(request.getfixturevalue("server").home))


async def assert_ledger_is_right(home):
    """Assert that `ledger verify` finds nothing, and that no request is open."""
    async with open_services(home) as services:
        assert [] == await audit_differences(services.ledger)
        assert 0 == await services.ledger.leases.sweep()
