from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from stillhouse.accounts.accounts import Accounts
from stillhouse.clock import FrozenClock
from stillhouse.store.database import Database


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


@pytest.fixture
async def database(place: Path | str) -> AsyncIterator[Database]:
    with Database.open(place, is_server=True) as database:
        yield database


@pytest.fixture
async def accounts(
    database: Database, clock: FrozenClock, tmp_path: Path
) -> AsyncIterator[Accounts]:
    accounts = await Accounts.open(database, clock, tmp_path)
    yield accounts
    await accounts.close()
