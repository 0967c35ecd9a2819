"""Declares the tables of accounts, their keys and their scopes."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from stillhouse.store.tables.metadata import RowNumber, metadata

#: Holders of money: customers, and the house's own two sides of every posting.
account = Table(
    "account",
    metadata,
    Column("id", RowNumber, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("is_prepaid", Boolean, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    UniqueConstraint("kind", "name"),
    CheckConstraint("kind IN ('customer', 'house')", name="kind"),
)

#: Its one row holds the fingerprint of the pepper of the keys' HMACs.
pepper = Table("pepper", metadata, Column("fingerprint", LargeBinary(32), primary_key=True))

#: A secret that spends an account's money; only its HMAC is kept.
api_key = Table(
    "api_key",
    metadata,
    Column("id", RowNumber, primary_key=True),
    Column("account_id", BigInteger, ForeignKey("account.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("prefix", Text, nullable=False),
    Column("secret_hmac", LargeBinary(32), nullable=False),
    Column("sealed_secret", LargeBinary),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("last_used_at_ms", BigInteger),
    Column("expires_at_ms", BigInteger),
    Column("revoked_at_ms", BigInteger),
    Column("allowed_models", Text),
    Column("limit_picousd", BigInteger),
    Column("limit_period", Text),
    UniqueConstraint("secret_hmac"),
    CheckConstraint("limit_picousd >= 0", name="limit"),
    CheckConstraint("limit_period IN ('total', 'month')", name="limit_period"),
    CheckConstraint("(limit_picousd IS NULL) = (limit_period IS NULL)", name="limit_whole"),
    Index(None, "created_at_ms"),
    # A revoked key's name may be given again.
    Index(
        "uq_api_key_live_name",
        "account_id",
        "name",
        unique=True,
        sqlite_where=text("revoked_at_ms IS NULL"),
        postgresql_where=text("revoked_at_ms IS NULL"),
    ),
)

#: A narrower right to spend a key's money: one signed token, from its first paid request until some
#: time after its end. Its requests outlast it.
scope = Table(
    "scope",
    metadata,
    Column("id", RowNumber, primary_key=True),
    Column("key_id", BigInteger, ForeignKey("api_key.id"), nullable=False),
    Column("fingerprint", LargeBinary(32), nullable=False),
    Column("limit_picousd", BigInteger),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("expires_at_ms", BigInteger),
    UniqueConstraint("fingerprint"),
    CheckConstraint("limit_picousd >= 0", name="limit"),
    Index(None, "expires_at_ms"),
)
