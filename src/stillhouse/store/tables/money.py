"""Declares the tables of postings and of balances."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
)

from stillhouse.store.tables.metadata import RowNumber, metadata

#: A customer's payment.
top_up = Table(
    "top_up",
    metadata,
    Column("number", RowNumber, primary_key=True),
    Column("account_id", BigInteger, ForeignKey("account.id"), nullable=False),
    Column("amount_picousd", BigInteger, nullable=False),
    Column("note", Text, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    CheckConstraint("amount_picousd > 0", name="amount"),
)

#: Money that moved: append-only, and the amounts of one posting (kind, reference) sum to zero.
#: A charge refers to its request's number, a top-up to its own. A positive amount adds to the
#: account.
entry = Table(
    "entry",
    metadata,
    Column("reference", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("account_id", BigInteger, ForeignKey("account.id"), nullable=False),
    Column("amount_picousd", BigInteger, nullable=False),
    PrimaryKeyConstraint("reference", "kind", "account_id"),
    CheckConstraint("kind IN ('charge', 'top_up')", name="kind"),
    # The key is the row: without it, each entry would be stored a second time in an index.
    sqlite_with_rowid=False,
)

#: The amounts that a holder has spent and holds in a
#: period (0: of all time, 202611: November 2026).
#: Derived from requests and entries, and rebuildable from them; here so that a limit is a CHECK.
balance = Table(
    "balance",
    metadata,
    Column("holder", Text, nullable=False),
    Column("holder_id", BigInteger, nullable=False),
    Column("period", Integer, nullable=False),
    Column("spent_picousd", BigInteger, nullable=False),
    Column("held_picousd", BigInteger, nullable=False),
    Column("limit_picousd", BigInteger),
    PrimaryKeyConstraint("holder", "holder_id", "period"),
    CheckConstraint("holder IN ('account', 'key', 'scope')", name="holder"),
    CheckConstraint("spent_picousd >= 0 AND held_picousd >= 0", name="positive"),
    CheckConstraint("spent_picousd + held_picousd <= limit_picousd", name="within_limit"),
    sqlite_with_rowid=False,
)
