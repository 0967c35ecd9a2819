"""Opens the ledger's database: serialised write transactions, concurrent snapshot reads."""

from __future__ import annotations

import asyncio
import math
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Self, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError

from stillhouse.errors import ConfigError, StoreUnavailableError
from stillhouse.store import identity, schema
from stillhouse.store.backends import sqlite
from stillhouse.store.backends.backend import NUM_READERS, Backend
from stillhouse.store.backends.library_error import ConflictError, translated
from stillhouse.store.writer import GroupWriter

__all__ = ["ConflictError", "Connection", "Database"]

T = TypeVar("T")

#: A read whose connection is lost is retried on a new one, unless the failure took longer.
_RETRY_WITHIN_S = 0.1


class Database:
    """
    Runs durable transactions for many coroutines.

    A file of SQLite is served by one process at a time; others, such as `stillhouse keys create`,
    open it beside the server for a few short transactions. A database of PostgreSQL is served by
    any number of processes.

    Args:
        resources: Resources that are closed with the database.

    Attributes:
        ledger_id: The random id of this ledger.

    """

    def __init__(
        self, writer: GroupWriter, backend: Backend, resources: ExitStack, ledger_id: str
    ) -> None:
        self.ledger_id = ledger_id
        self._writer = writer
        self._backend = backend
        self._resources = resources
        self.is_closed = False
        self._last_outage_s = -math.inf
        self._read_threads = ThreadPoolExecutor(NUM_READERS, "ledger-reader")
        resources.callback(self._read_threads.shutdown)

    @classmethod
    def open(
        cls,
        place: Path | str,
        *,
        is_server: bool = False,
        expected_id: str | None = None,
        must_exist: bool = False,
    ) -> Database:
        """
        Opens the ledger; creates it, or migrates its schema, if needed.

        Args:
            place: The URL of a PostgreSQL database, which exists; or SQLite's file, made with mode
                0600 in a folder with mode 0700 where it is missing.
            is_server: Lock the file as the one process that serves it.
            expected_id: The id that the ledger must have; a missing one is not created.
            must_exist: A missing ledger is not created.

        Raises:
            ConfigError: Another process serves the file, it cannot be created, the URL is wrong,
                the ledger is missing, has another id, or is of a newer stillhouse.
            StoreUnavailableError: The database cannot be read or written.

        """
        must_exist = must_exist or expected_id is not None
        if must_exist and isinstance(place, Path) and not sqlite.is_file(place):
            raise _missing(place, expected_id)
        try:
            with ExitStack() as resources:
                if isinstance(place, Path):
                    backend = sqlite.open_backend(place, resources, is_server=is_server)
                else:
                    backend = _open_postgresql(place, resources)
                if must_exist:
                    _check_identity(backend, place, expected_id)
                schema.ensure_current(backend)
                ledger_id = _identify(backend)
                writer = GroupWriter(backend)
                resources.callback(writer.close)
                writer.expect(ledger_id)
                return cls(writer, backend, resources.pop_all(), ledger_id)
        except OSError as error:
            raise ConfigError(
                f"{place}: cannot be opened as the ledger: {error.strerror}"
            ) from error
        except (SQLAlchemyError, sqlite3.Error) as error:
            raise translated(error) from error

    @property
    def is_shared(self) -> bool:
        """Returns whether other servers may use the ledger at the same time."""
        return self._backend.is_shared

    @property
    def num_commits(self) -> int:
        """Returns the number of commits; each commits a group of transactions."""
        return self._writer.num_commits

    async def write(self, work: Callable[[Connection], T]) -> T:
        """
        Runs *work* in a transaction, and returns its result when the transaction is durable.

        Transactions run one at a time, so *work* must be short. If it raises, its changes are
        rolled back and the error is raised here. Cancelling the caller does not undo the work.

        Raises:
            ConflictError: A row breaks a rule of the schema.
            StoreUnavailableError: The ledger cannot be written, and nothing was written; this is
                uncertain only if a connection to PostgreSQL was lost at COMMIT and stayed lost.

        """
        return await self.submit(work)

    def submit(self, work: Callable[[Connection], T]) -> asyncio.Future[T]:
        """
        Runs *work* as `write` does, and returns its future, for callers that wait without a task.

        Cancelling the future does not undo the work.

        Raises:
            StoreUnavailableError: The ledger is closed, or too many transactions wait for it.

        """
        return self._writer.submit(work)

    async def probe(self, *, now_ms: int) -> None:
        """
        Writes a row, to prove that requests can be written.

        Raises:
            StoreUnavailableError: The ledger cannot be written.

        """
        await self.write(partial(identity.probe, ledger_id=self.ledger_id, now_ms=now_ms))

    async def check(self) -> None:
        """
        Checks that the ledger's files are the ones that are open; PostgreSQL has none to check.

        Raises:
            StoreUnavailableError: A file was deleted, replaced or cut short; all writes fail now.

        """
        if not self.is_closed:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._read_threads, self._backend.check)

    async def read(self, work: Callable[[Connection], T]) -> T:
        """
        Runs *work* on a snapshot of the ledger, and returns its result.

        Raises:
            StoreUnavailableError: The ledger cannot be read.

        """
        if self.is_closed:
            raise StoreUnavailableError("The ledger is closed.")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._read_threads, self._read, work, time.monotonic())

    def close(self) -> None:
        """Finishes pending transactions, then closes the connections; may be repeated."""
        self.is_closed = True
        self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _read(self, work: Callable[[Connection], T], submitted_s: float) -> T:
        if submitted_s < self._last_outage_s:
            # Reads that queued during the outage fail at once, instead of waiting for it each.
            raise StoreUnavailableError("The ledger cannot be used now: it did not answer others.")
        last_retry_s = time.monotonic() + _RETRY_WITHIN_S
        try:
            try:
                return self._run(work)
            except DBAPIError as error:
                if not error.connection_invalidated or time.monotonic() > last_retry_s:
                    raise
                # The connection was lost while it was idle, and all others with it.
                return self._run(work)
        except SQLAlchemyError as error:
            if isinstance(error, OperationalError):
                self._last_outage_s = time.monotonic()
            raise translated(error) from error

    def _run(self, work: Callable[[Connection], T]) -> T:
        with self._backend.reader.connect() as connection:
            return work(connection)


def _check_identity(backend: Backend, place: Path | str, expected_id: str | None) -> None:
    """Checks, before any change, that the database holds a ledger, and which one."""
    with backend.reader.connect() as connection:
        version = schema.fetch_version(connection)
        found_id = identity.find_id(connection)
    if version is None:
        raise _missing(place, expected_id)
    if expected_id is not None and found_id != expected_id:
        other = (
            f"ledger {found_id}"
            if found_id
            else "another ledger, of an older stillhouse, without an id"
        )
        raise ConfigError(
            f"{_describe(place)} is {other}, and this home was made with ledger {expected_id}. "
            "Restore that one from a backup, or correct store.url. "
            "To go on with this one on purpose, run: stillhouse ledger adopt"
        )


def _missing(place: Path | str, expected_id: str | None) -> ConfigError:
    if expected_id is None:
        return ConfigError(
            f"{_describe(place)} holds no ledger. Check --home, --config and store.url; "
            "`stillhouse serve` makes a ledger at its first start. To begin with an empty one, "
            "run: stillhouse ledger adopt --new"
        )
    return ConfigError(
        f"{_describe(place)} holds no ledger any more, and this home was made with ledger "
        f"{expected_id}. Restore it from a backup. "
        "To begin anew with an empty one on purpose, run: stillhouse ledger adopt --new"
    )


def _describe(place: Path | str) -> str:
    """Returns the file's path; of a database only the setting, as its URL may hold a password."""
    return str(place) if isinstance(place, Path) else "The database of store.url"


def _identify(backend: Backend) -> str:
    """Returns the ledger's id; the first opening creates it."""
    with backend.reader.connect() as connection:
        known = identity.find_id(connection)
    if known is None:
        with backend.write_lock(), backend.writer.begin() as connection:
            known = identity.ensure_id(connection)
    return known


def _open_postgresql(url: str, resources: ExitStack) -> Backend:
    try:
        from stillhouse.store.backends import postgresql  # noqa: PLC0415 - its driver is an optional extra
    except ImportError as error:
        raise ConfigError(
            f"store.url: PostgreSQL needs a driver ({error}). "
            "Install it with: pip install 'stillhouse[postgresql]'"
        ) from error
    return postgresql.open_backend(url, resources)
