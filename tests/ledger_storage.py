"""Accesses a ledger's storage directly, in a file or a database."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg.sql import SQL, Identifier

from stillhouse.store.backends.postgresql import LOCK


@contextmanager
def locked(place: Path | str) -> Iterator[None]:
    """Hold a write transaction of another program on the ledger."""
    if isinstance(place, Path):
        intruder = sqlite3.connect(place, isolation_level=None)
        intruder.execute("BEGIN IMMEDIATE")
        yield
        intruder.execute("ROLLBACK")
        intruder.close()
    else:
        with psycopg.connect(place) as connection:
            connection.execute("SELECT pg_advisory_lock(%s)", [LOCK])
            yield


def stored_bytes(place: Path | str) -> bytes:
    """Return all bytes that the ledger stores, as a thief would find them."""
    if isinstance(place, Path):
        files = [place, place.with_name(f"{place.name}-wal")]
        return b"".join(file.read_bytes() for file in files if file.exists())
    with psycopg.connect(place) as connection:
        connection.execute("SET client_encoding = utf8")
        names = connection.execute(
            "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'"
        ).fetchall()
        tables = [connection.execute(SQL("TABLE {}").format(Identifier(name))) for (name,) in names]
        values = [value for table in tables for row in table for value in row]
    return b"\n".join(v if isinstance(v, bytes) else str(v).encode() for v in values)
