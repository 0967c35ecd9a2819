"""The libraries' errors in stillhouse's words; nobody above the store sees their own."""

from __future__ import annotations

import sqlite3

from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError

from stillhouse.errors import StillhouseError, StoreUnavailableError

_REFUSALS = (IntegrityError, DataError, sqlite3.IntegrityError, sqlite3.DataError)


class ConflictError(StillhouseError):
    """A row breaks a rule of the schema: mostly something that must be unique exists already."""


def translated(error: Exception) -> Exception:
    """*error* itself, or what stands for it where a library raised it (then its cause)."""
    if not isinstance(error, SQLAlchemyError | sqlite3.Error):
        return error
    # The library's text quotes the statement and its parameters, and PostgreSQL's further lines the
    # row; both are nobody else's business.
    reason = str(_of_driver(error) or type(error).__name__).partition("\n")[0]
    ours: StillhouseError
    if isinstance(error, _REFUSALS):
        ours = ConflictError(f"The ledger refuses the row: {reason}")
    else:
        ours = StoreUnavailableError(f"The ledger cannot be used now: {reason}")
    ours.__cause__ = error
    return ours


def is_deadlock(error: Exception) -> bool:
    """Whether the same work may well succeed now: another transaction was in its way."""
    return _sqlstate(error) in {"40001", "40P01"}


def is_busy(error: Exception) -> bool:
    """Whether another process was writing for longer than a request can wait."""
    return isinstance(error, StoreUnavailableError) or _sqlstate(error) == "55P03"


def _of_driver(error: Exception) -> object:
    """The driver's own error, which SQLAlchemy wraps; None where it has none."""
    return error if isinstance(error, sqlite3.Error) else getattr(error, "orig", None)


def _sqlstate(error: Exception) -> str | None:
    return getattr(_of_driver(error), "sqlstate", None)
