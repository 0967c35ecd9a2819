"""Checks that the files that a server has open are still the ones at their paths."""

from __future__ import annotations

import os
import struct
import sys
import threading
from contextlib import suppress
from pathlib import Path

import structlog

from stillhouse.errors import StoreUnavailableError

log = structlog.get_logger()

#: The file's beginning, with the size of a page and the number of pages (fileformat2.html, 1.3).
_HEAD_BYTES = 32

#: Bytes before a log's first page, and before each page (sqlite.org/walformat.html, section 4).
_LOG_HEADER_BYTES = 32
_FRAME_HEADER_BYTES = 24

#: In the index, as this machine writes numbers: a page's size, and how many pages the log holds.
_PAGES = struct.Struct("=HI")
_PAGES_OFFSET = 14

#: A number of two bytes that says 1 means this page size.
_LARGEST_PAGE_BYTES = 65_536

#: Attempts at a consistent read while another process writes.
_NUM_LOOKS = 3


class FileWatch:
    """
    Notices that SQLite's file, its log or its index was deleted, replaced or cut short.

    SQLite itself goes on in a deleted file as if nothing had happened, and what it has made durable
    is gone with the process. Where the same files are put back, all is well again. A file that was
    cut short never is: it is unknown what has been written into it since. Its log, with what was
    committed last, is then kept under a second name.

    The descriptors stay open until the end. To close one would drop the locks that SQLite holds in
    the same process (sqlite.org/howtocorrupt.html, section 2.2).

    Args:
        path: Of a database that is open, in WAL mode, and was read: its three files are there.

    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._log = path.with_name(f"{path.name}-wal")
        self._index = path.with_name(f"{path.name}-shm")
        self._known = [(str(p), *_look(str(p))[:2]) for p in (path, self._log, self._index)]
        self._num_bytes = path.stat().st_size
        self._fault: str | None = None
        self._is_cut = False
        self._looking = threading.Lock()
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._index_descriptor = os.open(self._index, os.O_RDONLY | os.O_CLOEXEC)

    def check(self) -> None:
        """
        Checks the files; this takes some microseconds.

        Raises:
            StoreUnavailableError: The next start would not find what is written now.

        """
        with self._looking:  # a length that was seen earlier must not be compared with a later one
            fault = self._fault if self._is_cut else self._find_fault()
            if fault != self._fault:
                self._fault = fault
                self._tell(fault)
        if fault is not None:
            raise StoreUnavailableError(f"The ledger's file {fault}.")

    def close(self) -> None:
        """Closes the descriptors; SQLite's own are closed already."""
        os.close(self._descriptor)
        os.close(self._index_descriptor)

    def _tell(self, fault: str | None) -> None:
        if fault is None:
            log.warning("ledger_file_restored", path=str(self._path))
            return
        if self._is_cut:
            # SQLite moves the log into what is left of the file when it closes it, and deletes it.
            with suppress(OSError):
                os.link(self._log, f"{self._log}.kept")
        log.critical(
            "ledger_file_harmed",
            path=str(self._path),
            fault=fault,
            meaning="no request is admitted or settled; put the same file back, or stop the "
            "server and restore the ledger",
        )

    def _find_fault(self) -> str | None:
        sizes = []
        try:
            for file, device, number in self._known:
                found = _look(file)
                if found[0] != device or found[1] != number:
                    return f"{Path(file).name} was replaced"
                sizes.append(found[2])
        except FileNotFoundError as error:
            return f"{Path(error.filename).name} was deleted"
        except OSError as error:
            return f"{Path(error.filename).name} cannot be looked at: {error.strerror}"
        return self._find_cut(*sizes[:2])

    def _find_cut(self, num_bytes: int, num_log_bytes: int) -> str | None:
        """Returns a message if the database or the log was cut short; None if neither was."""
        is_file_cut = num_bytes < self._num_bytes and self._is_file_cut()
        self._num_bytes = num_bytes
        is_log_cut = num_log_bytes < self._due_log_bytes() and self._is_log_cut()
        self._is_cut = is_file_cut or is_log_cut
        if self._is_cut:
            return f"{(self._path if is_file_cut else self._log).name} was cut short"
        return None

    def _is_file_cut(self) -> bool:
        """Returns whether the file is shorter than its header says; after VACUUM it is not."""
        head = os.pread(self._descriptor, _HEAD_BYTES, 0)
        num_pages = int.from_bytes(head[28:32], "big")
        due_bytes = num_pages * _page_bytes(int.from_bytes(head[16:18], "big"))
        return len(head) < _HEAD_BYTES or os.fstat(self._descriptor).st_size < due_bytes

    def _is_log_cut(self) -> bool:
        """Returns whether the log has fewer pages than its index says, on every attempt."""
        return all(
            self._log.exists() and self._log.stat().st_size < self._due_log_bytes()
            for _ in range(_NUM_LOOKS)
        )

    def _due_log_bytes(self) -> int:
        """Returns the length that the log must have by its index."""
        head = os.pread(self._index_descriptor, _PAGES.size, _PAGES_OFFSET)
        if len(head) < _PAGES.size:
            return sys.maxsize
        page_bytes: int
        num_pages: int
        page_bytes, num_pages = _PAGES.unpack(head)
        if not num_pages:
            return 0
        frame_bytes = _FRAME_HEADER_BYTES + _page_bytes(page_bytes)
        return _LOG_HEADER_BYTES + num_pages * frame_bytes


def _look(file: str) -> tuple[int, int, int]:
    """Returns the device, the inode and the length of the file at a path."""
    found = os.stat(file)  # noqa: PTH116 - with each commit; Path.stat takes twice as long
    return found.st_dev, found.st_ino, found.st_size


def _page_bytes(stated: int) -> int:
    return _LARGEST_PAGE_BYTES if stated == 1 else stated
