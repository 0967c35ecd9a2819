"""One thread that writes, and commits together the transactions that wait together."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

from sqlalchemy import Connection

from stillhouse.errors import StoreUnavailableError
from stillhouse.failpoint import failpoint
from stillhouse.store.library_error import translated

#: So many transactions share one fsync at most; the first of them waits for the last.
MAX_GROUP = 128

#: More waiting than this cannot be written before their callers give up.
MAX_WAITING = 10_000

Work = Callable[[Connection], Any]


@dataclass(slots=True)
class _Job:
    """A transaction, and the future that somebody waits for."""

    work: Work
    future: asyncio.Future[Any]
    result: Any = None
    error: Exception | None = None

    def run(self, connection: Connection) -> None:
        """Do the work in a savepoint, so that a failure undoes this work alone."""
        # `begin_nested` does the same, at six times the price of the two statements.
        connection.exec_driver_sql("SAVEPOINT job")
        try:
            self.result = self.work(connection)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the waiting caller's
            connection.exec_driver_sql("ROLLBACK TO job")
            self.error = translated(error)
        connection.exec_driver_sql("RELEASE job")

    def resolve(self) -> None:
        """Wake the caller; on the future's own loop."""
        if self.future.done():  # the caller was cancelled; what was written stays written
            return
        if self.error is None:
            self.future.set_result(self.result)
        else:
            self.future.set_exception(self.error)


class GroupWriter:
    """
    Runs transactions one after the other on a thread of its own.

    While one group's COMMIT waits for the disk the next group gathers, so that the number of
    fsyncs follows the disk's speed and not the number of requests.

    Args:
        connection: Used by this thread alone from now on; `close` closes it.
        turn: Entered around every group's transaction, to keep other processes out.

    """

    def __init__(
        self, connection: Connection, turn: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self._connection = connection
        self._turn = turn
        self._queue: SimpleQueue[_Job | None] = SimpleQueue()
        self._closing = threading.Lock()
        self._is_closed = False
        self.num_commits = 0
        self._thread = threading.Thread(target=self._run, name="ledger-writer", daemon=True)
        self._thread.start()

    def submit(self, work: Work) -> asyncio.Future[Any]:
        """
        Run *work* in a transaction; the future is done when that is durable.

        Cancelling the future does not undo the work.

        Raises:
            StoreUnavailableError: The writer is closed, or too much waits already.

        """
        job = _Job(work, asyncio.get_running_loop().create_future())
        with self._closing:
            if self._is_closed:
                raise StoreUnavailableError("The ledger is closed.")
            if self._queue.qsize() >= MAX_WAITING:
                raise StoreUnavailableError(f"{MAX_WAITING} transactions wait for the ledger.")
            self._queue.put(job)
        return job.future

    def close(self) -> None:
        """Write what waits, then end the thread and close the connection."""
        with self._closing:
            if not self._is_closed:
                self._is_closed = True
                self._queue.put(None)
        self._thread.join()
        self._connection.close()

    def _run(self) -> None:
        while group := self._next_group():
            try:
                self._commit(group)
            except Exception as error:  # noqa: BLE001 - a dead thread would leave callers waiting
                # Nothing of the group was committed, whatever became of each transaction.
                for job in group:
                    job.error = translated(error)
            _resolve(group)

    def _next_group(self) -> list[_Job]:
        """Wait for a transaction and take along those behind it; empty when the writer closes."""
        group: list[_Job] = []
        while (job := self._queue.get()) is not None:
            group.append(job)
            if len(group) == MAX_GROUP or self._queue.empty():
                return group
        if group:
            self._queue.put(None)  # the end, found behind this group, is still to come
        return group

    def _commit(self, group: Sequence[_Job]) -> None:
        with self._turn(), self._connection.begin():
            for job in group:
                job.run(self._connection)
            failpoint("before-commit")
        failpoint("after-commit")
        self.num_commits += 1


def _resolve(group: Sequence[_Job]) -> None:
    """Wake the callers of *group*; each event loop once, as waking one costs a system call."""
    jobs_by_loop: dict[asyncio.AbstractEventLoop, list[_Job]] = {}
    for job in group:
        jobs_by_loop.setdefault(job.future.get_loop(), []).append(job)
    for loop, jobs in jobs_by_loop.items():
        try:
            loop.call_soon_threadsafe(_wake, jobs)
        except RuntimeError:  # the loop has closed: nobody waits any more
            continue


def _wake(jobs: Sequence[_Job]) -> None:
    for job in jobs:
        job.resolve()
