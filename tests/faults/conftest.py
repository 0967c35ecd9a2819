from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.preloaded import Preloaded


@pytest.fixture(scope="session")
def preloaded() -> Iterator[Preloaded]:
    """The preloaded process from which short-lived servers are forked."""
    with Preloaded() as running:
        yield running
