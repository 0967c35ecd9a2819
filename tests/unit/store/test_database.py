from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from stillhouse.errors import InsufficientFundsError, StoreUnavailableError
from stillhouse.store.accounts.accounts import AccountRow
from stillhouse.store.database import ConflictError, Connection, Database
from stillhouse.store.writer import MAX_GROUP
from tests.ledger_storage import locked
from tests.unit.store.account_names import Gate, insert_account, names


@pytest.fixture
async def database(place: Path | str) -> AsyncIterator[Database]:
    with Database.open(place, is_server=True) as database:
        yield database


async def test_waiting_transactions_share_commits(database: Database) -> None:
    """Many requests that wait for the disk wait together; where others wait too, in a few turns."""
    gate = Gate()
    before = database.num_commits
    first = asyncio.create_task(database.write(gate))
    others = [
        asyncio.create_task(database.write(insert_account(f"a{n}"))) for n in range(MAX_GROUP)
    ]
    await asyncio.sleep(0)  # every task has handed its transaction over
    gate.open()
    await asyncio.gather(first, *others)
    most = MAX_GROUP // 2 if database.is_shared else 3
    assert before + most >= database.num_commits
    assert MAX_GROUP == len(await names(database))


async def test_failing_transaction_harms_only_itself(database: Database) -> None:
    """One transaction of a group that fails is undone alone, and its own caller is told."""

    def fail_after_insert(connection: Connection) -> None:
        insert_account("undone")(connection)
        raise InsufficientFundsError("no")

    gate = Gate()
    waiting = [
        asyncio.create_task(database.write(work))
        for work in (
            gate,
            insert_account("before"),
            fail_after_insert,
            insert_account("before"),  # a second one of this name
            insert_account("after"),
        )
    ]
    await asyncio.sleep(0)
    gate.open()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(None), AccountRow, InsufficientFundsError, ConflictError, AccountRow] == [
        type(result) for result in results
    ]
    assert ["before", "after"] == await names(database)


async def test_cancelled_caller_does_not_undo_its_write(database: Database) -> None:
    """Who stops waiting for a transaction neither stops it nor those beside it."""
    gate = Gate()
    blocking = asyncio.create_task(database.write(gate))
    leaving = asyncio.create_task(database.write(insert_account("left")))
    await asyncio.sleep(0)
    leaving.cancel()
    gate.open()
    await blocking
    await database.write(insert_account("stayed"))
    assert ["left", "stayed"] == await names(database)


async def test_close_writes_what_waits(place: Path | str) -> None:
    """Closing loses nothing that was handed over, and refuses what comes later."""
    database = Database.open(place)
    writes = [asyncio.create_task(database.write(insert_account(f"a{n}"))) for n in range(300)]
    await asyncio.sleep(0)
    database.close()
    database.close()
    assert 300 == len(await asyncio.gather(*writes))
    with pytest.raises(StoreUnavailableError):
        await database.write(insert_account("late"))


async def test_readers_see_what_was_committed_and_cannot_write(database: Database) -> None:
    """A read sees every write that was acknowledged before it, and is refused to change any."""
    await database.write(insert_account("seen"))
    assert ["seen"] == await names(database)
    with pytest.raises(StoreUnavailableError, match=r"read-?only"):
        await database.read(insert_account("written by a reader"))


async def test_command_line_writes_beside_the_server(database: Database, place: Path | str) -> None:
    """While a server runs, another opening of its ledger can write, and the server sees it."""
    with Database.open(place) as guest:
        await asyncio.gather(
            *(guest.write(insert_account(f"guest {n}")) for n in range(20)),
            *(database.write(insert_account(f"server {n}")) for n in range(20)),
        )
    assert 40 == len(await names(database))


async def test_locked_ledger_is_unavailable_and_recovers(
    database: Database, place: Path | str
) -> None:
    """While another program locks the ledger, writes fail in a second; afterwards they work."""
    with locked(place), pytest.raises(StoreUnavailableError, match=r"locked|lock timeout"):
        await asyncio.wait_for(database.write(insert_account("refused")), timeout=5)
    await database.write(insert_account("accepted"))
    assert ["accepted"] == await names(database)
