"""Checkpoints SQLite's log on its own thread, so that no commit waits for it."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from queue import SimpleQueue

import structlog

from stillhouse.errors import StoreUnavailableError

log = structlog.get_logger()

#: Rows that are changed between two passes; each is about a page of the log.
CHANGES_BETWEEN = 1_000

#: The writing thread empties a log of this many pages (32 MiB) itself.
MAX_LOG_PAGES = 8_192

_MOVE = "PRAGMA wal_checkpoint(PASSIVE)"


class Checkpointer:
    """
    Checkpoints a file's log while a server has the file open; nothing else does.

    SQLite would do it within every so-many-th COMMIT, which then takes twenty times as long as its
    neighbours. A pass of this thread runs beside commits; what they add meanwhile is left to the
    next pass. A log that is never seen whole, because commits come without a pause, would grow for
    ever: it is then emptied between two commits, when a pass has just left little to do.

    Versions 3.7.0 to 3.51.2 corrupt a file where a commit that restarts the log meets a pass that
    had nothing to move (sqlite.org/wal.html#walresetbug). Here no pass begins without commits that
    began behind the last one, so that each has something to move, and two never run at once.

    Args:
        connection: For the thread alone.
        check: Raises StoreUnavailableError where the log must not be moved: into a file that was
            cut short, it would hide what is missing.

    """

    def __init__(self, connection: sqlite3.Connection, check: Callable[[], None]) -> None:
        self._connection = connection
        self._check = check
        self._wanted: SimpleQueue[bool] = SimpleQueue()
        #: Cleared from a request for a pass until that pass has ended.
        self._is_idle = threading.Event()
        self._is_idle.set()
        self._num_log_pages = 0
        #: The writer's count of changes at its first commit behind the last pass.
        self._first_changes: int | None = None
        self._thread = threading.Thread(target=self._run, name="ledger-checkpoint", daemon=True)
        self._thread.start()

    def on_commit(self, writer: sqlite3.Connection) -> None:
        """Checks the log's length; the writing thread calls this after each commit."""
        if not self._is_idle.is_set():
            return
        if self._first_changes is None:
            self._first_changes = writer.total_changes
        if writer.total_changes - self._first_changes < CHANGES_BETWEEN:
            return
        if self._num_log_pages >= MAX_LOG_PAGES:
            self._move(writer)
            self._num_log_pages = 0
        else:
            self._is_idle.clear()
            self._wanted.put(True)

    def close(self) -> None:
        """Finishes the running pass, and ends the thread; call this after the last write."""
        self._wanted.put(False)
        self._thread.join()

    def _run(self) -> None:
        with closing(self._connection) as connection:
            while self._wanted.get():
                self._move(connection)
                self._is_idle.set()

    def _move(self, connection: sqlite3.Connection) -> None:
        try:
            self._check()
            _, self._num_log_pages, _ = connection.execute(_MOVE).fetchone()
        except sqlite3.Error as error:
            # The next pass may do; what is not moved is in the log, and as durable there.
            log.warning("ledger_checkpoint_failed", reason=str(error))
        except StoreUnavailableError:
            pass  # logged where it was found
        self._first_changes = None
