"""Opens SQLite: durable when COMMIT returns, private, one writer at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from sqlite3 import Connection as SqliteConnection
from sqlite3 import connect

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.pool import ConnectionPoolEntry

from stillhouse.errors import ConfigError
from stillhouse.store.backends.backend import NUM_READERS, Backend
from stillhouse.store.backends.checkpointer import Checkpointer
from stillhouse.store.backends.file_lock import FileLock
from stillhouse.store.backends.file_watch import FileWatch
from stillhouse.store.backends.prepared import driver_of

#: The longest wait for another process's transaction. Shorter than the second within which a
#: request must be refused when the ledger cannot be written.
BUSY_TIMEOUT_MS = 800

_PRAGMAS = (
    # Readers never wait for the writer, and a commit is one fsync of one file.
    "PRAGMA journal_mode = WAL",
    # fsync at every COMMIT: what was acknowledged survives a loss of power. WAL's usual NORMAL
    # survives only a killed process.
    "PRAGMA synchronous = FULL",
    # Off by default in SQLite for compatibility with 2009.
    "PRAGMA foreign_keys = ON",
    f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}",
    # A COMMIT that moved the log into the file as well would take twenty times as long; a thread of
    # the server's does it instead (`checkpointer`).
    "PRAGMA wal_autocheckpoint = 0",
)

#: A reader that could write would be a second writer.
_READER_PRAGMAS = (*_PRAGMAS, "PRAGMA query_only = ON")


def open_backend(path: Path, resources: ExitStack, *, is_server: bool) -> Backend:
    """
    Prepares connections to the file at *path*, which is made where it is missing.

    Raises:
        ConfigError: Another process serves it already.
        OSError: It cannot be made.

    """
    _create_private_file(path)
    closed_last = resources.enter_context(ExitStack())
    if is_server:
        _become_server(path, resources)
    write_lock = FileLock(path.with_name(f"{path.name}.write-lock"))
    resources.callback(write_lock.close)
    writer = _create(path, _PRAGMAS, begin="BEGIN IMMEDIATE", num_connections=1)
    resources.callback(writer.dispose)
    reader = _create(path, _READER_PRAGMAS, begin="BEGIN", num_connections=NUM_READERS)
    resources.callback(reader.dispose)
    backend = Backend(
        writer,
        reader,
        is_shared=False,
        write_lock=partial(write_lock.locked, timeout_s=BUSY_TIMEOUT_MS / 1000),
        transaction=_transaction,
    )
    if not is_server:
        return backend
    connection = _connect(path)
    connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()  # opens the log as well
    watch = FileWatch(path)
    closed_last.callback(watch.close)
    checkpointer = Checkpointer(connection, watch.check)
    resources.callback(checkpointer.close)
    return replace(
        backend,
        on_commit=lambda writer: checkpointer.on_commit(driver_of(writer)),
        check=watch.check,
    )


def is_file(path: Path) -> bool:
    """Returns whether the file at *path* exists and is not empty."""
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:
        return False


@contextmanager
def _transaction(connection: Connection) -> Iterator[None]:
    """Begins a transaction as `Connection.begin` does, in a tenth of its time."""
    driver = driver_of(connection)
    driver.execute("BEGIN IMMEDIATE")
    try:
        yield
        driver.commit()
    except BaseException:
        driver.rollback()
        raise
    finally:
        # Where SQLAlchemy ran a statement of its own, it believes that it began a transaction.
        connection.rollback()


def _create_private_file(path: Path) -> None:
    """Makes *path* and its folder readable by their owner alone; SQLite's own files follow it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))


def _become_server(path: Path, resources: ExitStack) -> None:
    """Keeps the lock of the one process that serves *path* until *resources* close."""
    lock = FileLock(path.with_name(f"{path.name}.lock"))
    resources.callback(lock.close)
    if not lock.try_acquire():
        raise ConfigError(
            f"{path} is served by process {lock.holder()} already, and one ledger has one server. "
            "Stop that process, or set STILLHOUSE_HOME to another folder."
        )


def _connect(path: Path) -> SqliteConnection:
    """Returns a connection without SQLAlchemy."""
    connection = connect(path, isolation_level=None, check_same_thread=False)
    _prepare(connection, _PRAGMAS)
    return connection


def _prepare(connection: SqliteConnection, pragmas: tuple[str, ...]) -> None:
    for pragma in pragmas:
        connection.execute(pragma)


def _create(path: Path, pragmas: tuple[str, ...], *, begin: str, num_connections: int) -> Engine:
    engine = create_engine(
        URL.create("sqlite+pysqlite", database=str(path)),
        # A connection is made by one thread and used by another, never by two at once.
        connect_args={"check_same_thread": False, "timeout": BUSY_TIMEOUT_MS / 1000},
        # Prepared statements pass their parameters by name, to either database's driver.
        paramstyle="named",
        pool_size=num_connections,
        max_overflow=0,
    )

    def prepare(connection: SqliteConnection, _entry: ConnectionPoolEntry) -> None:
        # Python's sqlite3 would begin a transaction by itself, too late and of the wrong kind:
        # BEGIN IMMEDIATE takes the write lock before the first read, so none can be lost between.
        connection.isolation_level = None
        _prepare(connection, pragmas)

    def begin_transaction(connection: Connection) -> None:
        if not driver_of(connection).in_transaction:
            connection.exec_driver_sql(begin)

    event.listen(engine, "connect", prepare)
    event.listen(engine, "begin", begin_transaction)
    return engine
