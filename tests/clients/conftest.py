from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.running_server import RunningServer, run_server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """The server without a configuration; when all clients are done, its ledger must be right."""
    with run_server(tmp_path_factory.mktemp("home") / "state") as running:
        yield running
