"""Declares the table of the ledger's identity."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Table, Text

from stillhouse.store.tables.metadata import metadata

#: Its one row holds the ledger's id, and the last time that a write succeeded.
ledger = Table(
    "ledger",
    metadata,
    Column("id", Text, primary_key=True),
    Column("probed_at_ms", BigInteger, nullable=False),
)
