from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.preloaded import Preloaded


@pytest.fixture(scope="session")
def preloaded() -> Iterator[Preloaded]:
    """Where servers that live for a second come from."""
    with Preloaded() as running:
        yield running
