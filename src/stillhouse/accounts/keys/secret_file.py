"""Reads and writes secret files, readable by their owner alone, and written atomically."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from stillhouse.errors import ConfigError


def create_secret_file(path: Path, secret: str) -> bool:
    """
    Writes *secret* to *path* with mode 0600, unless the file exists.

    Returns:
        Whether this call made the file; of two processes at once, one does, and the other then
        reads a whole file.

    Raises:
        ConfigError: The folder cannot be written.

    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(f"{secret}\n")
                file.flush()
                os.fsync(file.fileno())
            # Unlike open(O_EXCL), a link never shows others a file that is not written yet.
            os.link(draft, path)
        except FileExistsError:
            return False
        finally:
            Path(draft).unlink()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error
    return True


def read_secret_file(path: Path) -> str | None:
    """
    Returns the secret in *path*, or None if there is no such file.

    Raises:
        ConfigError: It cannot be read, or others than its owner can read it.

    """
    try:
        with path.open() as file:
            mode = os.fstat(file.fileno()).st_mode & 0o777
            if mode & 0o077:
                raise ConfigError(
                    f"{path}: has mode {mode:04o}, so others can read this secret. "
                    f"Run: chmod 600 {path}"
                )
            return file.read().strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
