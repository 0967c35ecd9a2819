"""Declares the tables of requests, and of the prices and limits that admit them."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from stillhouse.store.tables.metadata import RowNumber, metadata

#: A model's prices from a moment on; never changed, only followed by another row.
price_version = Table(
    "price_version",
    metadata,
    Column("version", RowNumber, primary_key=True),
    Column("model", Text, nullable=False),
    Column("service_tier", Text, nullable=False),
    Column("input_picousd", BigInteger, nullable=False),
    Column("cached_input_picousd", BigInteger, nullable=False),
    Column("output_picousd", BigInteger, nullable=False),
    Column("valid_from_ms", BigInteger, nullable=False),
    CheckConstraint(
        "input_picousd >= 0 AND cached_input_picousd >= 0 AND output_picousd >= 0", name="positive"
    ),
    Index(None, "model", "service_tier"),
)

#: One row per request, made before the engine starts: HELD, then SETTLED or VOIDED for good.
request = Table(
    "request",
    metadata,
    Column("number", RowNumber, primary_key=True),
    Column("request_id", Text, nullable=False),
    Column("account_id", BigInteger, ForeignKey("account.id"), nullable=False),
    Column("key_id", BigInteger, ForeignKey("api_key.id"), nullable=False),
    Column("price_version", BigInteger, ForeignKey("price_version.version"), nullable=False),
    Column("state", Text, nullable=False),
    Column("hold_picousd", BigInteger, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("lease_until_ms", BigInteger),
    Column("prompt_tokens", BigInteger),
    Column("cached_tokens", BigInteger),
    Column("completion_tokens", BigInteger),
    Column("usage_source", Text),
    Column("outcome", Text),
    Column("cost_picousd", BigInteger),
    Column("resolved_at_ms", BigInteger),
    Column("scope_id", BigInteger),  # no foreign key: scopes are purged, requests are kept
    UniqueConstraint("request_id"),
    CheckConstraint("hold_picousd >= 0", name="hold"),
    CheckConstraint("cost_picousd BETWEEN 0 AND hold_picousd", name="cost_within_hold"),
    CheckConstraint("cached_tokens BETWEEN 0 AND prompt_tokens", name="cached_within_prompt"),
    CheckConstraint("completion_tokens >= 0", name="completion"),
    CheckConstraint(
        "(state = 'HELD' AND lease_until_ms IS NOT NULL AND prompt_tokens IS NULL"
        " AND cached_tokens IS NULL AND completion_tokens IS NULL AND usage_source IS NULL"
        " AND outcome IS NULL AND cost_picousd IS NULL AND resolved_at_ms IS NULL)"
        " OR (state = 'SETTLED' AND lease_until_ms IS NULL AND prompt_tokens IS NOT NULL"
        " AND cached_tokens IS NOT NULL AND completion_tokens IS NOT NULL"
        " AND usage_source IS NOT NULL AND outcome IS NOT NULL AND cost_picousd IS NOT NULL"
        " AND resolved_at_ms IS NOT NULL)"
        " OR (state = 'VOIDED' AND lease_until_ms IS NULL AND outcome IS NOT NULL"
        " AND cost_picousd = 0 AND resolved_at_ms IS NOT NULL"
        " AND (prompt_tokens IS NULL) = (usage_source IS NULL)"
        " AND (prompt_tokens IS NULL) = (cached_tokens IS NULL)"
        " AND (prompt_tokens IS NULL) = (completion_tokens IS NULL))",
        name="state",
    ),
    Index(
        "ix_request_held",
        "lease_until_ms",
        sqlite_where=text("state = 'HELD'"),
        postgresql_where=text("state = 'HELD'"),
    ),
)

#: Counts an account's requests in flight, only where gateways share a ledger.
Index(
    "ix_request_held_account",
    request.c.account_id,
    postgresql_where=text("state = 'HELD'"),
).ddl_if(dialect="postgresql")

#: The moment when an account's minute at a model, of requests or of tokens, is
#: refilled: nanoseconds
#: since 1970 by the database's clock. Kept only where gateways share a ledger.
rate = Table(
    "rate",
    metadata,
    Column("account_id", BigInteger, ForeignKey("account.id"), nullable=False),
    Column("model", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("full_at_ns", BigInteger, nullable=False),
    PrimaryKeyConstraint("account_id", "model", "kind"),
    sqlite_with_rowid=False,
)

#: A client's name for a request, which identifies a repetition; with the answer once the request is
#: settled. Deleted when it is voided or long past.
idempotency_key = Table(
    "idempotency_key",
    metadata,
    Column("number", RowNumber, primary_key=True),
    Column("account_id", BigInteger, ForeignKey("account.id"), nullable=False),
    Column("key", Text, nullable=False),
    Column("fingerprint", LargeBinary(32), nullable=False),
    Column("request_number", BigInteger, ForeignKey("request.number"), nullable=False),
    Column("expires_at_ms", BigInteger, nullable=False),
    Column("answer", LargeBinary),
    UniqueConstraint("account_id", "key"),
    UniqueConstraint("request_number"),
    Index(None, "expires_at_ms"),
)
