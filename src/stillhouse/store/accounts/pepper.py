"""Stores the fingerprint of the pepper; the pepper itself is never in the ledger."""

from __future__ import annotations

from sqlalchemy import Connection, insert, select

from stillhouse.store.tables import pepper


def fetch_fingerprint(connection: Connection) -> bytes | None:
    """Returns the stored fingerprint of the pepper; None if there is none yet."""
    return connection.scalars(select(pepper.c.fingerprint)).one_or_none()


def ensure_fingerprint(connection: Connection, fingerprint: bytes) -> bytes:
    """Returns the stored fingerprint; stores *fingerprint* if there is none."""
    known = fetch_fingerprint(connection)
    if known is None:
        connection.execute(insert(pepper), {"fingerprint": fingerprint})
    return known or fingerprint
