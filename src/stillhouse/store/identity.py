"""Stores a ledger's identity: a random id, created once."""

from __future__ import annotations

import secrets

from sqlalchemy import Connection, bindparam, insert, select, update
from sqlalchemy.exc import OperationalError, ProgrammingError

from stillhouse.errors import StoreUnavailableError
from stillhouse.store.backends.prepared import Prepared
from stillhouse.store.tables import ledger

_NUM_BYTES = 8

_PROBE = Prepared(
    update(ledger)
    .where(ledger.c.id == bindparam("the_id"))
    .values(probed_at_ms=bindparam("now_ms"))
)


def find_id(connection: Connection) -> str | None:
    """Returns the ledger's id; None if there is no ledger, or if an older stillhouse made it."""
    try:
        return connection.scalars(select(ledger.c.id)).one_or_none()
    except (OperationalError, ProgrammingError) as error:
        connection.rollback()
        if error.connection_invalidated or not _is_missing_table(error):
            raise
        return None


def ensure_id(connection: Connection) -> str:
    """Returns the ledger's id; creates it if there is none."""
    known = connection.scalars(select(ledger.c.id)).one_or_none()
    if known is None:
        known = secrets.token_hex(_NUM_BYTES)
        connection.execute(insert(ledger), {"id": known, "probed_at_ms": 0})
    return known


def check_id(connection: Connection, expected: str) -> None:
    """
    Checks that the database still holds the ledger that was opened.

    Raises:
        StoreUnavailableError: The database holds another ledger, or none.

    """
    found = find_id(connection)
    if found != expected:
        raise _replaced(found)


def probe(connection: Connection, ledger_id: str, *, now_ms: int) -> None:
    """
    Updates a row as a request would; a commit then proves that requests can be written.

    Raises:
        StoreUnavailableError: The database holds another ledger now.

    """
    if _PROBE.run(connection, {"the_id": ledger_id, "now_ms": now_ms}).rowcount != 1:
        raise _replaced(find_id(connection))


def _replaced(found: str | None) -> StoreUnavailableError:
    return StoreUnavailableError(
        f"The database holds {'another' if found else 'no'} ledger now: it was replaced."
    )


def _is_missing_table(error: OperationalError | ProgrammingError) -> bool:
    """Returns whether the database exists and only the table is missing."""
    missing = "42P01"  # undefined_table of PostgreSQL
    return getattr(error.orig, "sqlstate", None) == missing or "no such table" in str(error.orig)
