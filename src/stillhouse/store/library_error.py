"""SQLAlchemy's errors in stillhouse's words; nobody above the store sees the library's own."""

from __future__ import annotations

from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from stillhouse.errors import StillhouseError, StoreUnavailableError


class ConflictError(StillhouseError):
    """A row breaks a rule of the schema: mostly something that must be unique exists already."""


def translated(error: Exception) -> Exception:
    """*error* itself, or what stands for it where SQLAlchemy raised it (then its cause)."""
    if not isinstance(error, SQLAlchemyError):
        return error
    # The library's text quotes the statement and its parameters, which are nobody else's business.
    reason = str(getattr(error, "orig", None) or type(error).__name__)
    ours: StillhouseError
    if isinstance(error, IntegrityError):
        ours = ConflictError(f"The ledger refuses the row: {reason}")
    else:
        ours = StoreUnavailableError(f"The ledger cannot be used now: {reason}")
    ours.__cause__ = error
    return ours
