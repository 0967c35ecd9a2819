from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from sqlalchemy import text

from stillhouse.errors import ConfigError, InsufficientFundsError, StoreUnavailableError
from stillhouse.store import accounts
from stillhouse.store.accounts import AccountRow
from stillhouse.store.database import ConflictError, Connection, Database
from stillhouse.store.writer import MAX_GROUP


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    with Database.open(tmp_path / "ledger.db", is_server=True) as database:
        yield database


def insert_account(name: str) -> Callable[[Connection], AccountRow]:
    return lambda connection: accounts.insert_customer(connection, name=name, created_at_ms=0)


async def names(database: Database) -> list[str]:
    return [account.name for account in await database.read(accounts.fetch_customers)]


class Gate:
    """A transaction that keeps the writer busy until it is opened, so that others wait behind."""

    def __init__(self) -> None:
        self._is_open = threading.Event()

    def __call__(self, connection: Connection) -> None:
        assert self._is_open.wait(timeout=30)

    def open(self) -> None:
        self._is_open.set()


async def test_waiting_transactions_share_one_commit(database: Database) -> None:
    """However many requests wait for the disk, it is waited for once for all of them."""
    gate = Gate()
    before = database.num_commits
    first = asyncio.create_task(database.write(gate))
    others = [
        asyncio.create_task(database.write(insert_account(f"a{n}"))) for n in range(MAX_GROUP)
    ]
    await asyncio.sleep(0)  # every task has handed its transaction over
    gate.open()
    await asyncio.gather(first, *others)
    assert before + 3 >= database.num_commits
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


async def test_close_writes_what_waits(tmp_path: Path) -> None:
    """Closing loses nothing that was handed over, and refuses what comes later."""
    database = Database.open(tmp_path / "ledger.db")
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
    with pytest.raises(StoreUnavailableError, match="readonly"):
        await database.read(insert_account("written by a reader"))


async def test_every_connection_is_durable(database: Database) -> None:
    """WAL with synchronous=FULL and foreign keys holds for the writer and for readers."""

    def pragmas(connection: Connection) -> list[object]:
        return [
            connection.execute(text(f"PRAGMA {name}")).scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        ]

    assert ["wal", 2, 1] == await database.write(pragmas)
    assert ["wal", 2, 1] == await database.read(pragmas)


async def test_files_are_private(tmp_path: Path) -> None:
    """The ledger and all that SQLite puts beside it are for their owner's eyes alone."""
    path = tmp_path / "home" / "ledger.db"
    with Database.open(path, is_server=True) as database:
        await database.write(insert_account("somebody"))
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert 0o700 == stat.S_IMODE(path.parent.stat().st_mode)
    assert {"ledger.db", "ledger.db-wal", "ledger.db-shm"} <= modes.keys()
    assert {0o600} == set(modes.values())


async def test_second_server_is_refused_by_name(database: Database, tmp_path: Path) -> None:
    """A second server on the same ledger is told which process serves it."""
    with pytest.raises(ConfigError, match=f"process {os.getpid()} "):
        Database.open(tmp_path / "ledger.db", is_server=True)


async def test_next_server_may_start_when_the_first_has_ended(tmp_path: Path) -> None:
    """The lock goes with its holder, however often a server starts."""
    for _ in range(3):
        Database.open(tmp_path / "ledger.db", is_server=True).close()


async def test_command_line_writes_beside_the_server(database: Database, tmp_path: Path) -> None:
    """While a server runs, another opening of its ledger can write, and the server sees it."""
    with Database.open(tmp_path / "ledger.db") as guest:
        await asyncio.gather(
            *(guest.write(insert_account(f"guest {n}")) for n in range(20)),
            *(database.write(insert_account(f"server {n}")) for n in range(20)),
        )
    assert 40 == len(await names(database))


async def test_locked_ledger_is_unavailable_and_recovers(
    database: Database, tmp_path: Path
) -> None:
    """While another program locks the file, writes fail within a second; afterwards they work."""
    intruder = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
    intruder.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailableError, match="locked"):
        await asyncio.wait_for(database.write(insert_account("refused")), timeout=5)
    intruder.execute("ROLLBACK")
    intruder.close()
    await database.write(insert_account("accepted"))
    assert ["accepted"] == await names(database)


async def test_folder_that_cannot_be_made_is_a_configuration_error(tmp_path: Path) -> None:
    """A ledger below something that is no folder is refused with the path and the reason."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"file/ledger\.db: .*(exists|directory)"):
        Database.open(tmp_path / "file" / "ledger.db")


async def test_file_that_is_no_database_is_unavailable(tmp_path: Path) -> None:
    """A file of something else is left as it is and reported."""
    path = tmp_path / "ledger.db"
    path.write_text("these are not the rows you are looking for" * 100)
    with pytest.raises(StoreUnavailableError, match="not a database"):
        Database.open(path)
