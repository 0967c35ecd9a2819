"""Commits in groups: one thread runs the write transactions, and commits waiting ones together."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

from sqlalchemy import Connection

from stillhouse.errors import StoreUnavailableError
from stillhouse.failpoint import failpoint
from stillhouse.store import identity
from stillhouse.store.backends.backend import TRANSACTION_ID, Backend
from stillhouse.store.backends.library_error import is_deadlock, translated
from stillhouse.store.backends.prepared import run_sql

#: The most transactions that share one fsync; the first of them waits for the last.
MAX_GROUP = 128

#: A longer queue could not be written before its callers time out.
MAX_WAITING = 10_000

#: Attempts at a transaction whose connection is lost, or that fails to serialise.
_NUM_ATTEMPTS = 3

#: An attempt that took longer than this to fail is not repeated: its callers waited enough.
_RETRY_WITHIN_S = 0.1

Work = Callable[[Connection], Any]


@dataclass(slots=True)
class _Job:
    """A transaction, and the future of its result."""

    work: Work
    future: asyncio.Future[Any]
    result: Any = None
    error: Exception | None = None

    def run(self, connection: Connection) -> None:
        """
        Runs the work in a savepoint, so that a failure rolls back this work alone.

        Raises:
            DBAPIError: The connection is lost, and with it the whole transaction.

        """
        for _ in range(_NUM_ATTEMPTS):
            # `begin_nested` does the same, at many times the cost of the two statements.
            run_sql(connection, "SAVEPOINT job")
            try:
                self.result, self.error = self.work(connection), None
                run_sql(connection, "RELEASE job")
            except Exception as error:
                if connection.invalidated:
                    raise
                run_sql(connection, "ROLLBACK TO job")
                run_sql(connection, "RELEASE job")
                self.error = translated(error)
                if is_deadlock(error):
                    continue
            return

    def resolve(self) -> None:
        """Resolves the future; called on its own loop."""
        if self.future.done():  # the caller was cancelled; what was written stays written
            return
        if self.error is None:
            self.future.set_result(self.result)
        else:
            self.future.set_exception(self.error)


class GroupWriter:
    """
    Runs transactions one after the other on its own thread.

    While the COMMIT of one group waits for the disk, the next group gathers, so the number of
    fsyncs follows the disk's speed and not the number of requests.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._connection: Connection | None = backend.writer.connect()
        self._queue: SimpleQueue[_Job | None] = SimpleQueue()
        self._closing = threading.Lock()
        self._is_closed = False
        #: The jobs of a group that were not run before the write lock had to be released.
        self._left_over: list[_Job] = []
        #: The transaction whose COMMIT was sent last, and the number of its jobs.
        self._sent: tuple[str | None, int] = (None, 0)
        self.num_commits = 0
        self._ledger_id: str | None = None
        self._is_known = False
        self._thread = threading.Thread(target=self._run, name="ledger-writer", daemon=True)
        self._thread.start()

    def submit(self, work: Work) -> asyncio.Future[Any]:
        """
        Runs *work* in a transaction; the future is done when the transaction is durable.

        Cancelling the future does not undo the work.

        Raises:
            StoreUnavailableError: The writer is closed, or its queue is full.

        """
        job = _Job(work, asyncio.get_running_loop().create_future())
        with self._closing:
            if self._is_closed:
                raise StoreUnavailableError("The ledger is closed.")
            if self._queue.qsize() >= MAX_WAITING:
                raise StoreUnavailableError(f"{MAX_WAITING} transactions wait for the ledger.")
            self._queue.put(job)
        return job.future

    def expect(self, ledger_id: str) -> None:
        """Refuses to write to any other ledger, should a new connection lead to one."""
        self._ledger_id = ledger_id

    def close(self) -> None:
        """Finishes pending transactions, then ends the thread and closes the connection."""
        with self._closing:
            if not self._is_closed:
                self._is_closed = True
                self._queue.put(None)
        self._thread.join()
        if self._connection is not None:
            self._connection.close()

    def _run(self) -> None:
        while group := self._next_group():
            try:
                num_written = self._write(group)
            except Exception as error:  # noqa: BLE001 - a dead thread would leave callers waiting
                # Jobs that arrived meanwhile would only wait as long for the same failure.
                group += self._all_waiting()
                num_written = len(group)
                for job in group:
                    job.error = translated(error)
            self._left_over = group[num_written:]
            _resolve(group[:num_written])
            if self._has_connection():
                self._backend.on_commit(self._connect())

    def _next_group(self) -> list[_Job]:
        """Waits for a job, and returns it with those behind it; empty when the writer closes."""
        group = self._left_over
        while len(group) < MAX_GROUP and (not group or not self._queue.empty()):
            job = self._queue.get()
            if job is None:
                if group:
                    self._queue.put(None)  # the writer closes after this group
                break
            group.append(job)
        return group

    def _all_waiting(self) -> list[_Job]:
        waiting = []
        try:
            while (job := self._queue.get_nowait()) is not None:
                waiting.append(job)
        except Empty:
            return waiting
        self._queue.put(None)
        return waiting

    def _write(self, group: Sequence[_Job]) -> int:
        """
        Commits the first jobs of *group*, until `max_lock_s` is over, and returns their number.

        If the connection is lost, this is retried on a new one.

        Raises:
            Exception: Nothing was committed. This is uncertain only if the connection was lost at
                COMMIT and no new one could be made in time.

        """
        self._sent = (None, 0)
        last_retry_s = time.monotonic() + _RETRY_WITHIN_S
        for _ in range(_NUM_ATTEMPTS - 1):
            try:
                return self._commit(group)
            except Exception:
                if self._has_connection() or time.monotonic() > last_retry_s:
                    raise
        return self._commit(group)

    def _commit(self, group: Sequence[_Job]) -> int:
        with self._backend.write_lock():
            self._backend.check()
            connection = self._connect()
            with self._backend.transaction(connection):
                self._check_ledger(connection)
                unanswered, num_written = self._sent
                if unanswered and self._backend.was_committed(connection, unanswered):
                    return num_written
                self._sent = (None, 0)
                num_written = self._run_jobs(connection, group)
                failpoint("before-commit")
                self._sent = (connection.info.get(TRANSACTION_ID), num_written)
        # A transaction in a file that the next start would not find is not acknowledged.
        self._backend.check()
        failpoint("after-commit")
        self.num_commits += 1
        return num_written

    def _run_jobs(self, connection: Connection, group: Sequence[_Job]) -> int:
        end_s = time.monotonic() + self._backend.max_lock_s
        for num_run, job in enumerate(group, start=1):
            job.run(connection)
            if time.monotonic() >= end_s:
                return num_run
        return len(group)

    def _check_ledger(self, connection: Connection) -> None:
        if self._ledger_id is not None and not self._is_known:
            identity.check_id(connection, self._ledger_id)
            self._is_known = True

    def _has_connection(self) -> bool:
        return self._connection is not None and not self._connection.invalidated

    def _connect(self) -> Connection:
        """Returns the connection; replaces it if it was lost."""
        if self._connection is not None and self._connection.invalidated:
            self._connection.close()
            self._connection = None
        if self._connection is None:
            self._connection = self._backend.writer.connect()
            self._is_known = False
        return self._connection


def _resolve(group: Sequence[_Job]) -> None:
    """Resolves the futures of *group*; wakes each event loop once, as that costs a system call."""
    jobs_by_loop: dict[asyncio.AbstractEventLoop, list[_Job]] = {}
    for job in group:
        jobs_by_loop.setdefault(job.future.get_loop(), []).append(job)
    for loop, jobs in jobs_by_loop.items():
        try:
            loop.call_soon_threadsafe(_wake, jobs)
        except RuntimeError:  # the loop has closed, and with it all callers
            continue


def _wake(jobs: Sequence[_Job]) -> None:
    for job in jobs:
        job.resolve()
