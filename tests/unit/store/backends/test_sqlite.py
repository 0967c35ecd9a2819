from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import text

from stillhouse.errors import ConfigError, StoreUnavailableError
from stillhouse.store.backends.prepared import run_sql
from stillhouse.store.database import ConflictError, Connection, Database
from tests.unit.store.account_names import insert_account, names


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    with Database.open(tmp_path / "ledger.db", is_server=True) as database:
        yield database


async def test_every_connection_is_durable(database: Database) -> None:
    """WAL with synchronous=FULL and foreign keys is everywhere, and no COMMIT moves the log."""

    def pragmas(connection: Connection) -> list[object]:
        return [
            connection.execute(text(f"PRAGMA {name}")).scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys", "wal_autocheckpoint")
        ]

    assert ["wal", 2, 1, 0] == await database.write(pragmas)
    assert ["wal", 2, 1, 0] == await database.read(pragmas)


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


async def test_folder_that_cannot_be_made_is_a_configuration_error(tmp_path: Path) -> None:
    """A ledger below something that is no folder is refused with the path and the reason."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"file/ledger\.db: .*(exists|directory)"):
        Database.open(tmp_path / "file" / "ledger.db")


@pytest.mark.parametrize("is_server", [False, True])
async def test_file_that_is_no_database_is_unavailable(tmp_path: Path, *, is_server: bool) -> None:
    """A file of something else is left as it is and reported."""
    path = tmp_path / "ledger.db"
    path.write_text("these are not the rows you are looking for" * 100)
    with pytest.raises(StoreUnavailableError, match="not a database"):
        Database.open(path, is_server=is_server)


async def test_refused_commit_leaves_nothing_behind(database: Database) -> None:
    """A COMMIT that the database refuses undoes its transaction, and the next one is written."""

    def refer_to_nobody(connection: Connection) -> None:
        run_sql(connection, "PRAGMA defer_foreign_keys = ON")  # looked at by COMMIT alone
        run_sql(connection, "INSERT INTO account VALUES (9, 'customer', 'undone', false, 0)")
        run_sql(connection, "INSERT INTO top_up VALUES (1, -1, 1, '', 0)")

    with pytest.raises(ConflictError, match="FOREIGN KEY"):
        await database.write(refer_to_nobody)
    await database.write(insert_account("written"))
    assert ["written"] == await names(database)


async def test_full_disk_refuses_and_recovers(database: Database) -> None:
    """What no longer fits on the disk is refused whole; what fits again is written."""

    def limit_pages(connection: Connection, number: int) -> None:
        connection.exec_driver_sql(f"PRAGMA max_page_count = {number}")

    def num_pages(connection: Connection) -> int:
        number: int = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        return number

    most = await database.read(num_pages)
    await database.write(lambda connection: limit_pages(connection, most))
    accepted: list[str] = []
    with pytest.raises(StoreUnavailableError, match="full"):  # noqa: PT012 - the disk says when
        for number in count():
            name = f"{number}" * 100
            await database.write(insert_account(name))
            accepted.append(name)
    assert accepted == await names(database)
    await database.write(lambda connection: limit_pages(connection, 2**30))
    await database.write(insert_account("fits again"))
    assert [*accepted, "fits again"] == await names(database)
