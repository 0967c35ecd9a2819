"""Remembers the id of a home folder's ledger, so that another one in its place is refused."""

from __future__ import annotations

import re
from pathlib import Path

from stillhouse.accounts.keys.secret_file import create_secret_file, read_secret_file
from stillhouse.errors import ConfigError

FILE = "ledger-id"


def load_ledger_id(home: Path) -> str | None:
    """
    Returns the id of the home's ledger; None for a home that has had none yet.

    Raises:
        ConfigError: The file cannot be read, or holds something else.

    """
    path = home / FILE
    ledger_id = read_secret_file(path)
    if ledger_id is not None and not re.fullmatch("[0-9a-f]{16}", ledger_id):
        raise ConfigError(
            f"{path}: is not a ledger's id, 16 hexadecimal digits. Restore it from a backup, or "
            "take the ledger that is there for the home's with: stillhouse ledger adopt"
        )
    return ledger_id


def remember_ledger_id(home: Path, ledger_id: str) -> None:
    """
    Stores *ledger_id* as that of the home's ledger, if none is stored.

    Raises:
        ConfigError: The folder cannot be written, or another process has stored another id.

    """
    create_secret_file(home / FILE, ledger_id)
    kept = load_ledger_id(home)
    if kept != ledger_id:
        raise ConfigError(f"{home / FILE}: says {kept}, but the ledger is {ledger_id}.")


def forget_ledger_id(home: Path) -> None:
    """
    Deletes the id of the home's ledger.

    Raises:
        ConfigError: The file cannot be removed.

    """
    try:
        (home / FILE).unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"{home / FILE}: cannot be removed: {error.strerror}") from error
