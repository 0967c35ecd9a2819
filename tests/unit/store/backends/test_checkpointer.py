from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from stillhouse.store.backends import checkpointer
from stillhouse.store.backends.checkpointer import Checkpointer
from stillhouse.store.database import Database
from tests.unit.store.account_names import insert_account

CHANGES_BETWEEN = 10


def connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    return connection


def check() -> None:
    """The files are those that are open."""


class File:
    """A file with a table, whose log is moved by a checkpointer."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.writer = connect(path)
        self.writer.execute("CREATE TABLE line (number INTEGER PRIMARY KEY)")
        self.writer.execute("PRAGMA wal_checkpoint")
        self.mover = connect(path)
        self.passes: list[str] = []
        self.mover.set_trace_callback(self.passes.append)
        self.checkpointer = Checkpointer(self.mover, check)
        self.num_rows = 0

    def commit(self, num_rows: int = 1) -> None:
        """Write rows, tell the checkpointer, and wait for the pass if that begins one."""
        self.writer.execute("BEGIN")
        for _ in range(num_rows):
            self.num_rows += 1
            self.writer.execute("INSERT INTO line VALUES (?)", [self.num_rows])
        self.writer.execute("COMMIT")
        self.checkpointer.on_commit(self.writer)
        self.checkpointer._is_idle.wait()

    def num_moved(self) -> int:
        """How many rows somebody finds who has the file without its log."""
        copy = shutil.copy(self.path, self.path.with_name("copy"))
        with sqlite3.connect(copy) as connection:
            number: int = connection.execute("SELECT count(*) FROM line").fetchone()[0]
        connection.close()
        return number

    def log_bytes(self) -> int:
        return self.path.with_name(f"{self.path.name}-wal").stat().st_size

    def close(self) -> None:
        self.checkpointer.close()
        self.writer.close()


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[File]:
    monkeypatch.setattr(checkpointer, "CHANGES_BETWEEN", CHANGES_BETWEEN)
    file = File(tmp_path / "file.db")
    yield file
    file.close()


def test_a_log_is_moved_when_there_is_enough_of_it(file: File) -> None:
    """Nothing is moved for a few rows; so many behind the first commit are one pass."""
    for _ in range(CHANGES_BETWEEN):
        file.commit()
    assert 0 == file.num_moved()
    file.commit()
    assert CHANGES_BETWEEN + 1 == file.num_moved()
    assert ["PRAGMA wal_checkpoint(PASSIVE)"] == file.passes


def test_no_pass_begins_with_nothing_to_move(file: File) -> None:
    """However often it is asked, a pass follows only on commits that began behind the last one."""
    file.commit()
    file.commit(CHANGES_BETWEEN)
    file.commit(5 * CHANGES_BETWEEN)  # it may have begun before the pass was over
    for _ in range(CHANGES_BETWEEN):
        file.checkpointer.on_commit(file.writer)
    assert 1 == len(file.passes)
    file.commit(CHANGES_BETWEEN)
    assert 2 == len(file.passes)


def test_a_log_that_is_too_long_is_emptied_by_who_writes(
    file: File, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log that no pass has seen whole begins anew, and so stays as long as it was."""
    monkeypatch.setattr(checkpointer, "MAX_LOG_PAGES", 2 * CHANGES_BETWEEN)
    monkeypatch.setattr(file.checkpointer, "_num_log_pages", 2 * CHANGES_BETWEEN)
    file.commit()
    file.commit(CHANGES_BETWEEN)
    assert [] == file.passes
    assert CHANGES_BETWEEN + 1 == file.num_moved()
    long = file.log_bytes()
    file.commit()  # at the log's beginning
    assert long == file.log_bytes()
    assert 0 == file.checkpointer._num_log_pages


def test_a_log_does_not_grow_for_ever(file: File, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that keeps every pass from beginning anew is gone at last, and then it ends."""
    monkeypatch.setattr(checkpointer, "MAX_LOG_PAGES", 2 * CHANGES_BETWEEN)
    reader = connect(file.path)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM line").fetchall()
    for _ in range(10 * CHANGES_BETWEEN):
        file.commit()
    assert 0 == file.num_moved()
    reader.close()
    long = file.log_bytes()
    for _ in range(10 * CHANGES_BETWEEN):
        file.commit()
    assert 0 < file.num_moved()
    assert file.log_bytes() <= long + 5 * CHANGES_BETWEEN * 5000


def test_a_pass_that_fails_is_told_and_tried_again(file: File) -> None:
    """What cannot be moved now is moved by a later pass."""
    file.mover.set_authorizer(lambda *_: sqlite3.SQLITE_DENY)
    with capture_logs() as lines:
        file.commit()
        file.commit(CHANGES_BETWEEN)
    assert "ledger_checkpoint_failed" in {line["event"] for line in lines}
    assert 0 == file.num_moved()
    file.mover.set_authorizer(None)
    file.commit()
    file.commit(CHANGES_BETWEEN)
    assert 2 * CHANGES_BETWEEN + 2 == file.num_moved()


async def test_a_server_has_its_log_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is committed comes into the file while the server serves."""
    monkeypatch.setattr(checkpointer, "CHANGES_BETWEEN", 1)
    path = tmp_path / "ledger.db"
    with Database.open(path, is_server=True) as database:
        before = path.stat().st_size
        for number in range(1000):
            await database.write(insert_account(f"{number}" * 1000))
            if path.stat().st_size > before:
                return
    pytest.fail("nothing was moved")
