"""The ledger's file: one door for writing, one for reading."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Self, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from stillhouse.errors import ConfigError, StoreUnavailableError
from stillhouse.store import schema, sqlite
from stillhouse.store.file_lock import FileLock
from stillhouse.store.library_error import ConflictError, translated
from stillhouse.store.writer import GroupWriter

__all__ = ["ConflictError", "Connection", "Database"]

T = TypeVar("T")

_NUM_READERS = 2


class Database:
    """
    Durable transactions for many coroutines, in one file.

    One process at a time serves a file; others, such as `stillhouse keys create`, open it beside
    the server for a few short transactions.

    Args:
        resources: Closed with the database.

    """

    def __init__(self, writer: GroupWriter, reader: Engine, resources: ExitStack) -> None:
        self._writer = writer
        self._reader = reader
        self._resources = resources
        self.is_closed = False
        self._read_threads = ThreadPoolExecutor(_NUM_READERS, "ledger-reader")
        resources.callback(self._read_threads.shutdown)

    @classmethod
    def open(cls, path: Path, *, is_server: bool = False) -> Database:
        """
        Open the ledger, making it or bringing its schema up to date where needed.

        Args:
            path: The file; made with mode 0600 in a folder with mode 0700 where it is missing.
            is_server: Be the one process that serves this file.

        Raises:
            ConfigError: Another process serves the file already, it cannot be made, or it is of a
                newer stillhouse.
            StoreUnavailableError: The file cannot be read or written.

        """
        try:
            with ExitStack() as resources:
                sqlite.create_private_file(path)
                if is_server:
                    _become_server(path, resources)
                write_lock = FileLock(path.with_name(f"{path.name}.write-lock"))
                resources.callback(write_lock.close)
                turn = partial(write_lock.turn, timeout_s=sqlite.BUSY_TIMEOUT_MS / 1000)
                engine = sqlite.create_writer(path, is_server=is_server)
                resources.callback(engine.dispose)
                reader = sqlite.create_reader(path, num_connections=_NUM_READERS)
                resources.callback(reader.dispose)
                schema.ensure_current(reader, engine, turn)
                writer = GroupWriter(engine.connect(), turn)
                resources.callback(writer.close)
                return cls(writer, reader, resources.pop_all())
        except OSError as error:
            raise ConfigError(
                f"{path}: cannot be opened as the ledger: {error.strerror}"
            ) from error
        except SQLAlchemyError as error:
            raise translated(error) from error

    @property
    def num_commits(self) -> int:
        """How often this process has waited for the disk; far below the number of transactions."""
        return self._writer.num_commits

    async def write(self, work: Callable[[Connection], T]) -> T:
        """
        Run *work* in a transaction, and return its result when that is durable.

        Transactions run one at a time, so *work* must be short. When it raises, its changes are
        undone and the error is raised here. Cancelling the caller does not undo the work.

        Raises:
            ConflictError: A row breaks a rule of the schema.
            StoreUnavailableError: The ledger cannot be written; nothing was.

        """
        result: T = await self._writer.submit(work)
        return result

    async def read(self, work: Callable[[Connection], T]) -> T:
        """
        Run *work* on one unchanging state of the ledger and return its result.

        Raises:
            StoreUnavailableError: The ledger cannot be read.

        """
        if self.is_closed:
            raise StoreUnavailableError("The ledger is closed.")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._read_threads, self._read, work)

    def close(self) -> None:
        """Write what waits, then close the file; closing again does nothing."""
        self.is_closed = True
        self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _read(self, work: Callable[[Connection], T]) -> T:
        try:
            with self._reader.connect() as connection:
                return work(connection)
        except SQLAlchemyError as error:
            raise translated(error) from error


def _become_server(path: Path, resources: ExitStack) -> None:
    """Keep the lock of the one process that serves *path* until *resources* close."""
    lock = FileLock(path.with_name(f"{path.name}.lock"))
    resources.callback(lock.close)
    if not lock.try_acquire():
        raise ConfigError(
            f"{path} is served by process {lock.holder()} already, and one ledger has one server. "
            "Stop that process, or set STILLHOUSE_HOME to another folder."
        )
