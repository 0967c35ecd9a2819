"""Writes and reads archives: compressed JSON, one request a line, created atomically."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from stillhouse.errors import ConfigError
from stillhouse.store.ledger.archive import ArchivedRequest

_PIECE_BYTES = 1 << 20


class ArchiveWriter:
    """
    Writes a file under a temporary name; `finish` renames it once it is on disk.

    Raises:
        ConfigError: The file exists already, or cannot be written.

    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._draft = path.with_name(f".{path.name}.draft")
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if path.exists():
                raise ConfigError(f"{path}: exists already. Give another name with --to.")
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
            self._file = os.fdopen(os.open(self._draft, flags, 0o600), "wb")
        except OSError as error:
            raise _unwritable(path, error) from error
        self._packer = gzip.GzipFile(fileobj=self._file, mode="wb", filename="", mtime=0)

    def append(self, requests: Iterable[ArchivedRequest]) -> None:
        """
        Appends requests.

        Raises:
            ConfigError: The requests cannot be written.

        """
        lines = (
            json.dumps({"request": one.row, "entries": one.entries}, separators=(",", ":"))
            for one in requests
        )
        try:
            self._packer.write("".join(f"{line}\n" for line in lines).encode())
        except OSError as error:
            raise _unwritable(self._path, error) from error

    def finish(self) -> str:
        """
        Flushes the file to disk under its name, and returns its SHA-256.

        Raises:
            ConfigError: It cannot be written.

        """
        try:
            self._packer.close()
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            os.link(self._draft, self._path)  # unlike a rename, never over another file
            self._draft.unlink()
            _sync_folder(self._path.parent)
        except OSError as error:
            raise _unwritable(self._path, error) from error
        return sha256_of(self._path)

    def give_up(self) -> None:
        """Deletes the temporary file."""
        self._file.close()
        self._draft.unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """Returns the SHA-256 of a file as it is on disk, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def read_archive(path: Path, *, at_once: int) -> Iterator[list[ArchivedRequest]]:
    """Yields the requests in a file in batches."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        while lines := list(islice(file, at_once)):
            read = (json.loads(line) for line in lines)
            yield [ArchivedRequest(one["request"], one["entries"]) for one in read]


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unwritable(path: Path, error: OSError) -> ConfigError:
    return ConfigError(f"{path}: cannot be written: {error.strerror}")
