"""
The ledger's tables.

Money is integer pico-dollars (``*_picousd``), time is UTC milliseconds since 1970 (``*_at_ms``).
NULL means unknown and is never the same as 0. Migrations create these tables; a test checks that
both agree.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)

#: SQLite numbers rows by itself only where the column's type is exactly INTEGER.
RowNumber = BigInteger().with_variant(Integer(), "sqlite")

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

#: The one row says which ledger this is, and when it was last proved that it can be written.
ledger = Table(
    "ledger",
    metadata,
    Column("id", Text, primary_key=True),
    Column("probed_at_ms", BigInteger, nullable=False),
)

#: Who has money: customers, and the house's own two sides of every posting.
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

#: The one row says which pepper the keys' HMACs were made with.
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

#: A narrower right to spend a key's money: one signed token, from the first request that it pays
#: for until some time after its end. Its requests outlast it.
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

#: What a model's tokens cost from a moment on; never changed, only followed by another.
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

#: What an account has in flight is counted where gateways share a ledger, and only there.
Index(
    "ix_request_held_account",
    request.c.account_id,
    postgresql_where=text("state = 'HELD'"),
).ddl_if(dialect="postgresql")

#: When an account's minute at a model, of requests or of tokens, will be whole again: nanoseconds
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

#: A client's name for one of its account's requests, by which a repetition is known; with the
#: answer from the moment that the request is settled. Deleted when it is voided or long past.
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

#: What a customer paid in.
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
#: A charge refers to its request's number, a top-up to its own. A positive amount is money that the
#: account has more of.
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

#: What a holder has spent and holds in a period (0: of all time, 202611: November 2026).
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

#: What a key used on a day (counted from 1970 in UTC) at a price: sums over resolved requests.
usage_day = Table(
    "usage_day",
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

#: What `usage_day` says of the requests that were moved into files: no other row knows any more.
archived_day = Table(
    "archived_day",
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

#: What the entries of an archive's requests come to, by account: each account's opening balance.
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
