"""Translates the errors of SQLAlchemy and the drivers; the layers above the store see ours only."""

from __future__ import annotations

import sqlite3

from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError

from stillhouse.errors import StillhouseError, StoreUnavailableError

_REFUSALS = (IntegrityError, DataError, sqlite3.IntegrityError, sqlite3.DataError)


class ConflictError(StillhouseError):
    """A row breaks a rule of the schema: mostly something that must be unique exists already."""


def translated(error: Exception) -> Exception:
    """Returns *error* itself; if a library raised it, our error in its place, caused by it."""
    if not isinstance(error, SQLAlchemyError | sqlite3.Error):
        return error
    # The library's text quotes the statement with its parameters, and PostgreSQL's further lines
    # quote the row; neither may reach a client.
    reason = str(_of_driver(error) or type(error).__name__).partition("\n")[0]
    ours: StillhouseError
    if isinstance(error, _REFUSALS):
        ours = ConflictError(f"The ledger refuses the row: {reason}")
    else:
        ours = StoreUnavailableError(f"The ledger cannot be used now: {reason}")
    ours.__cause__ = error
    return ours


def is_deadlock(error: Exception) -> bool:
    """Returns whether a retry may succeed, after a deadlock or serialisation failure."""
    return _sqlstate(error) in {"40001", "40P01"}


def is_busy(error: Exception) -> bool:
    """Returns whether another process held the write lock for longer than a request can wait."""
    return isinstance(error, StoreUnavailableError) or _sqlstate(error) == "55P03"


def _of_driver(error: Exception) -> object:
    """Returns the driver's error that SQLAlchemy wraps, if there is one."""
    return error if isinstance(error, sqlite3.Error) else getattr(error, "orig", None)


def _sqlstate(error: Exception) -> str | None:
    return getattr(_of_driver(error), "sqlstate", None)
