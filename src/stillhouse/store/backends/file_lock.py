"""Locks between processes that the operating system lets go of when their holder dies."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stillhouse.errors import StoreUnavailableError

#: flock has no timeout of its own, so a waiting process looks again after this long.
_POLL_S = 0.001


class FileLock:
    """
    An exclusive lock on a small file of its own, which may say who holds it.

    Never on a database file: closing any descriptor of that drops the locks which SQLite holds in
    the same process (sqlite.org/howtocorrupt.html, section 2.2).
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def try_acquire(self) -> bool:
        """Take the lock until `close`, unless another process has it."""
        if not self._try_flock():
            return False
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, b"%d\n" % os.getpid(), 0)
        return True

    def holder(self) -> str:
        """The id of the process that took the lock until its end, or ``unknown``."""
        return os.pread(self._descriptor, 32, 0).decode(errors="replace").strip() or "unknown"

    @contextmanager
    def locked(self, *, timeout_s: float) -> Iterator[None]:
        """
        Hold the lock for the length of the block.

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
        """Let go of the lock and of the file, which stays: removing it would race with others."""
        os.close(self._descriptor)

    def _try_flock(self) -> bool:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
