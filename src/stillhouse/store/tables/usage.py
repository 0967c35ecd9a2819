"""Declares the tables of daily sums, and of archived requests."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
)

from stillhouse.store.tables.metadata import RowNumber, metadata


def _sums_by_day(name: str) -> Table:
    """Declares sums over a key's resolved requests of a day (from 1970, UTC) at a price."""
    return Table(
        name,
        metadata,
        Column("day", Integer, nullable=False),
        Column("key_id", BigInteger, ForeignKey("api_key.id"), nullable=False),
        Column("price_version", BigInteger, ForeignKey("price_version.version"), nullable=False),
        Column("num_settled", BigInteger, nullable=False),
        Column("num_voided", BigInteger, nullable=False),
        Column("prompt_tokens", BigInteger, nullable=False),
        Column("cached_tokens", BigInteger, nullable=False),
        Column("completion_tokens", BigInteger, nullable=False),
        Column("cost_picousd", BigInteger, nullable=False),
        PrimaryKeyConstraint("day", "key_id", "price_version"),
        sqlite_with_rowid=False,
    )


usage_day = _sums_by_day("usage_day")

#: A file that requests were moved into. While a transaction moves some, and only within it, the row
#: says so, and requests may be deleted.
archive = Table(
    "archive",
    metadata,
    Column("number", RowNumber, primary_key=True),
    Column("before_ms", BigInteger, nullable=False),
    Column("file", Text, nullable=False),
    Column("sha256", Text),
    Column("num_requests", BigInteger, nullable=False),
    Column("is_moving", Boolean, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("finished_at_ms", BigInteger),
)

#: The sums of archived requests; no other row holds them.
archived_day = _sums_by_day("archived_day")

#: Sums of the entries of an archive's requests, by account: each account's opening balance.
#: A scope with a limit has what its requests cost carried forward as well.
carried = Table(
    "carried",
    metadata,
    Column("archive", BigInteger, ForeignKey("archive.number"), nullable=False),
    Column("holder", Text, nullable=False),
    Column("holder_id", BigInteger, nullable=False),
    Column("amount_picousd", BigInteger, nullable=False),
    PrimaryKeyConstraint("archive", "holder", "holder_id"),
    CheckConstraint("holder IN ('account', 'scope')", name="holder"),
    sqlite_with_rowid=False,
)
