"""Locks between processes; the operating system releases them when their holder dies."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stillhouse.errors import StoreUnavailableError

#: The polling interval of a waiting process, as flock has no timeout.
_POLL_S = 0.001


class FileLock:
    """
    An exclusive lock on a small file of its own, which names the holder's process.

    A database file cannot serve as one: closing any descriptor of it drops the locks that SQLite
    holds in the same process (sqlite.org/howtocorrupt.html, section 2.2).
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def try_acquire(self) -> bool:
        """Acquires the lock until `close`, unless another process has it."""
        if not self._try_flock():
            return False
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, b"%d\n" % os.getpid(), 0)
        return True

    def holder(self) -> str:
        """Returns the id of the process that holds the lock until its end, or ``unknown``."""
        return os.pread(self._descriptor, 32, 0).decode(errors="replace").strip() or "unknown"

    @contextmanager
    def locked(self, *, timeout_s: float) -> Iterator[None]:
        """
        Holds the lock for the length of the block.

        Raises:
            StoreUnavailableError: Another process kept it for *timeout_s*.

        """
        deadline_s = time.monotonic() + timeout_s
        while not self._try_flock():
            if time.monotonic() >= deadline_s:
                raise StoreUnavailableError(
                    f"Another process has been writing to the ledger for {timeout_s} s."
                )
            time.sleep(_POLL_S)
        try:
            yield
        finally:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Releases the lock, and closes the file; removing the file would race with others."""
        os.close(self._descriptor)

    def _try_flock(self) -> bool:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
