"""Keeps KV cache blocks on disk, so that shared prefixes outlive a restart."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import re
import stat
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

import numpy as np
import structlog

from stillhouse.engines.openvino.kv.blocks import HASH_BYTES
from stillhouse.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from stillhouse.engines.openvino.kv.blocks import BlockMemory

MAGIC = b"stillhouse-kv-1\n"
DIGEST_BYTES = hashlib.sha256().digest_size
HEADER_BYTES = len(MAGIC) + DIGEST_BYTES
QUEUE_BYTES = 128 * 1024 * 1024
_BLOCK_FILE = re.compile(rf"([0-9a-f]{{{2 * HASH_BYTES}}})\.kv")
_PART_SUFFIX = ".part"


class DiskTier:
    """
    Keeps one file per block in a folder, and removes the least recently used files.

    Files are private to their owner and named by the blocks' hashes, which reveal nothing without
    the salt. A file is used only if its length and its checksum, which covers name and identity
    too, are right; any other is removed. Files are not synced: a file that a crash truncates fails
    its check.

    One thread calls it; a second, its own, writes. A failure to write is only logged.

    Args:
        folder: Folder of this identity alone; created if it is missing.
        memory: The blocks in memory, source and target of every file.
        identity: Identifies all inputs of a block's bytes beside its tokens.
        max_bytes: Most bytes of all files together.

    Raises:
        ConfigError: The folder cannot be written, or not one block fits into *max_bytes*.

    """

    def __init__(
        self, folder: Path, memory: BlockMemory, *, identity: bytes, max_bytes: int
    ) -> None:
        self._folder = folder
        self._memory = memory
        self._identity = identity
        self._buffer = np.empty(HEADER_BYTES + memory.block_bytes, np.uint8)
        self._max_files = max_bytes // len(self._buffer)
        if not self._max_files:
            raise ConfigError(
                f"prefix_disk_bytes is {max_bytes}; one block takes {len(self._buffer)}."
            )
        self._max_queued = max(1, QUEUE_BYTES // memory.block_bytes)
        self._index: OrderedDict[bytes, None] = OrderedDict()  # least recently used first
        self._queue: OrderedDict[bytes, NDArray[np.uint8]] = OrderedDict()
        self._changed = threading.Condition()  # guards both
        self._is_closed = False
        self._is_failing = False
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.chmod(0o700)
            self._take_stock()
        except OSError as error:
            raise ConfigError(
                f"prefix_disk_dir: {folder} cannot be written: {error.strerror}."
            ) from error
        self._writer = threading.Thread(target=self._write_all, name="disk-tier", daemon=True)
        self._writer.start()

    @property
    def max_blocks(self) -> int:
        """Most blocks that are kept; of a longer prefix only the start is worth saving."""
        return self._max_files

    def holds(self, name: bytes) -> bool:
        """Returns whether a file of this name exists; its content is not checked."""
        return name in self._index

    def save(self, name: bytes, block: int) -> None:
        """Queues *block*, which is full, for writing; drops it if the queue is full."""
        is_full = self._is_closed or len(self._queue) >= self._max_queued
        if is_full or name in self._index or name in self._queue:
            return
        content = self._memory.read_block(block)
        with self._changed:
            self._queue[name] = content
            self._changed.notify_all()

    def restore(self, name: bytes, block: int) -> bool:
        """Fills *block* from the file *name*; returns whether that succeeded."""
        if name not in self._index:
            return False
        content = self._read(name)
        if content is None:
            structlog.get_logger().warning("prefix_disk_file_removed", name=name.hex())
            self._remove(name)
            return False
        self._memory.write_block(block, content)
        self.touch([name])
        return True

    def touch(self, names: Iterable[bytes]) -> None:
        """Marks *names* as used, the last one most recently."""
        for name in names:
            with self._changed:
                if name not in self._index:
                    continue
                self._index.move_to_end(name)
            with contextlib.suppress(OSError):
                os.utime(self._path(name))

    def close(self, timeout_s: float) -> None:
        """Refuses further blocks, and returns when the queue is written or *timeout_s* is over."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._writer.join(timeout_s)

    # Files.

    def _path(self, name: bytes) -> Path:
        return self._folder / f"{name.hex()}.kv"

    def _take_stock(self) -> None:
        """Indexes the files of an earlier process, and removes unusable ones."""
        found = []
        for path in self._folder.iterdir():
            match = _BLOCK_FILE.fullmatch(path.name)
            try:
                status = path.lstat()
            except FileNotFoundError:  # another engine on this folder was quicker
                continue
            if match and stat.S_ISREG(status.st_mode) and status.st_size == len(self._buffer):
                found.append((status.st_mtime_ns, bytes.fromhex(match[1])))
            elif match or path.suffix == _PART_SUFFIX:
                path.unlink(missing_ok=True)
        for _, name in sorted(found):
            self._index[name] = None
        self._make_room(self._max_files)

    def _digest(self, name: bytes, content: NDArray[np.uint8]) -> bytes:
        digest = hashlib.sha256(self._identity + name)
        digest.update(content.data)
        return digest.digest()

    def _read(self, name: bytes) -> NDArray[np.uint8] | None:
        """Returns a file's content, overwritten by the next, or None if anything is wrong."""
        try:
            descriptor = os.open(self._path(name), os.O_RDONLY | os.O_NOFOLLOW)
            with os.fdopen(descriptor, "rb", buffering=0) as file:
                if file.readinto(self._buffer.data) != len(self._buffer) or file.read(1):
                    return None
        except OSError:
            return None
        header, content = self._buffer[:HEADER_BYTES], self._buffer[HEADER_BYTES:]
        is_sound = header.tobytes() == MAGIC + self._digest(name, content)
        return content if is_sound else None

    def _write_all(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._is_closed)
                if not self._queue:
                    return
                name, content = next(iter(self._queue.items()))
            try:
                self._write(name, content)
                self._is_failing = False
            except OSError as error:
                if not self._is_failing:
                    with contextlib.suppress(OSError):  # the log may be on the same full disk
                        structlog.get_logger().warning(
                            "prefix_disk_write_failed", reason=error.strerror
                        )
                self._is_failing = True
            with self._changed:
                del self._queue[name]
                self._changed.notify_all()

    def _write(self, name: bytes, content: NDArray[np.uint8]) -> None:
        self._make_room(self._max_files - 1)
        part = self._path(name).with_suffix(_PART_SUFFIX)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        try:
            # Buffered, as a bare write to a disk that becomes full writes less and says nothing.
            with os.fdopen(os.open(part, flags, 0o600), "wb") as file:
                file.write(MAGIC + self._digest(name, content))
                file.write(content.data)
            part.replace(self._path(name))
        except OSError:
            part.unlink(missing_ok=True)
            raise
        with self._changed:
            self._index[name] = None

    def _make_room(self, max_files: int) -> None:
        while True:
            with self._changed:
                if len(self._index) <= max_files:
                    return
                name = next(iter(self._index))
            self._remove(name)

    def _remove(self, name: bytes) -> None:
        with self._changed:
            self._index.pop(name, None)
        with contextlib.suppress(OSError):
            self._path(name).unlink(missing_ok=True)


def remove_disk_tiers(parent: Path, family: str, *, but: Path | None = None) -> None:
    """
    Removes the folders of *family* under *parent*, which are outdated or no longer configured.

    Args:
        but: The folder to keep.

    """
    for folder in parent.glob(f"{glob.escape(family)}-*"):
        if folder == but:
            continue
        with contextlib.suppress(OSError):  # a foreign file in a folder keeps it
            for path in folder.iterdir():
                if _BLOCK_FILE.fullmatch(path.name) or path.suffix == _PART_SUFFIX:
                    path.unlink()
            folder.rmdir()
            structlog.get_logger().info("prefix_disk_removed", path=str(folder))
