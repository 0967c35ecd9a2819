from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.running_server import RunningServer, run_server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server without a configuration; its ledger must be consistent at the end."""
    with run_server(tmp_path_factory.mktemp("home") / "state") as running:
        yield running
