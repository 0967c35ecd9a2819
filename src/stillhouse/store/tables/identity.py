"""Table of the ledger's identity."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Table, Text

from stillhouse.store.tables.metadata import metadata

#: The one row says which ledger this is, and when it was last proved that it can be written.
ledger = Table(
    "ledger",
    metadata,
    Column("id", Text, primary_key=True),
    Column("probed_at_ms", BigInteger, nullable=False),
)
