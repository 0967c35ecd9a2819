from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from stillhouse.errors import ConfigError, StoreUnavailableError
from stillhouse.store.backends import checkpointer
from stillhouse.store.database import Database
from tests.unit.store.account_names import insert_account, names


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
async def database(path: Path) -> AsyncIterator[Database]:
    with Database.open(path, is_server=True) as database:
        await database.write(insert_account("first"))
        yield database


def delete(file: Path) -> None:
    file.unlink()


def replace(file: Path) -> None:
    """As an editor or `cp --remove-destination` does: the same bytes in another file."""
    shutil.copy(file, f"{file}.copy")
    Path(f"{file}.copy").rename(file)


def cut(file: Path) -> None:
    os.truncate(file, 0)


def empty_log(operator: sqlite3.Connection) -> None:
    """Once no pass of the server's is in the way."""
    while operator.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
        pass


def move(file: Path, to: Path) -> None:
    file.rename(to)


def num_bytes(file: Path) -> int:
    return file.stat().st_size


@pytest.mark.parametrize(
    "case",
    [
        (delete, "", "ledger.db was deleted"),
        (delete, "-wal", "ledger.db-wal was deleted"),
        (delete, "-shm", "ledger.db-shm was deleted"),
        (replace, "", "ledger.db was replaced"),
        (replace, "-wal", "ledger.db-wal was replaced"),
        (cut, "", "ledger.db was cut short"),
        (cut, "-wal", "ledger.db-wal was cut short"),
    ],
)
async def test_nothing_is_acknowledged_into_a_file_that_is_gone(
    database: Database,
    path: Path,
    case: tuple[Callable[[Path], None], str, str],
) -> None:
    """Whichever of its files is harmed, transactions fail with its name; one line is logged."""
    harm, ending, told = case
    harm(path.with_name(path.name + ending))
    with capture_logs() as lines:
        for _ in range(3):
            with pytest.raises(StoreUnavailableError, match=told):
                await database.write(insert_account("second"))
        with pytest.raises(StoreUnavailableError, match=told):
            await database.check()
        with pytest.raises(StoreUnavailableError, match=told):
            await database.probe(now_ms=1)
    alarms = [line for line in lines if line["log_level"] == "critical"]
    assert ["ledger_file_harmed"] == [line["event"] for line in alarms]
    assert told in alarms[0]["fault"]


async def test_a_commit_into_a_file_that_vanishes_meanwhile_is_not_acknowledged(
    database: Database, path: Path
) -> None:
    """A transaction during which the file is deleted fails, though SQLite has committed it."""
    with pytest.raises(StoreUnavailableError, match="was deleted"):
        await database.write(lambda _: path.unlink())


async def test_a_file_that_is_put_back_is_used_again(
    database: Database, path: Path, tmp_path: Path
) -> None:
    """A ledger that was moved away and back by mistake goes on, with all that it had."""
    elsewhere = tmp_path / "elsewhere"
    move(path, elsewhere)
    with pytest.raises(StoreUnavailableError):
        await database.write(insert_account("second"))
    move(elsewhere, path)
    await database.write(insert_account("third"))
    assert ["first", "third"] == await names(database)


async def test_a_file_that_was_cut_stays_unusable(database: Database, path: Path) -> None:
    """Bytes that come back do not make a cut file right, and its log is kept for its rescuer."""
    log = path.with_name("ledger.db-wal")
    whole = num_bytes(path)
    cut(path)
    with pytest.raises(StoreUnavailableError):
        await database.check()
    os.truncate(path, whole)
    with pytest.raises(StoreUnavailableError, match="cut short"):
        await database.write(insert_account("second"))
    kept = log.read_bytes()
    database.close()
    assert kept == log.with_name("ledger.db-wal.kept").read_bytes()


async def test_what_an_operator_may_do_is_no_harm(
    database: Database, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """VACUUM makes the file smaller and a checkpoint empties the log; both beside a server."""
    monkeypatch.setattr(checkpointer, "CHANGES_BETWEEN", 10)
    for number in range(100):
        await database.write(insert_account(f"{number}" * 1000))
    operator = sqlite3.connect(path, isolation_level=None)
    empty_log(operator)
    assert 0 == num_bytes(path.with_name("ledger.db-wal"))
    await database.check()
    size = num_bytes(path)
    operator.execute("DELETE FROM balance WHERE holder_id > 5")
    operator.execute("DELETE FROM account WHERE id > 5")
    operator.execute("VACUUM")
    empty_log(operator)
    operator.close()
    assert num_bytes(path) < size
    await database.probe(now_ms=1)


async def test_a_ledger_is_opened_as_the_one_that_is_expected(place: Path | str) -> None:
    """Every opening of a ledger finds the same id; who expects another is refused."""
    with Database.open(place) as database:
        known = database.ledger_id
    with Database.open(place, expected_id=known) as database:
        assert known == database.ledger_id
    with pytest.raises(ConfigError, match=r"and this home was made with ledger 0123.*adopt"):
        Database.open(place, expected_id="0123")


def test_a_ledger_that_is_missing_is_not_made(path: Path) -> None:
    """Neither a missing nor an empty file becomes a ledger where one is expected."""
    for _ in range(2):
        with pytest.raises(ConfigError, match=r"holds no ledger any more.*0123.*adopt --new"):
            Database.open(path, expected_id="0123")
        with pytest.raises(ConfigError, match=r"holds no ledger\. Check"):
            Database.open(path, must_exist=True)
        assert not path.exists() or path.stat().st_size == 0
        path.touch()


async def test_a_database_of_another_ledger_is_not_written(database: Database) -> None:
    """A probe of a database whose ledger was replaced says so."""
    await database.write(lambda c: c.exec_driver_sql("UPDATE ledger SET id = 'other'"))
    with pytest.raises(StoreUnavailableError, match="holds another ledger"):
        await database.probe(now_ms=1)
