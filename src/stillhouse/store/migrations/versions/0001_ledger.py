"""
The ledger's first schema: accounts, keys, prices, requests, entries and balances.

`store/tables/` describes each table. This file is history: whatever changes
later becomes a migration of its own.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_ROW_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_HELD = sa.text("state = 'HELD'")
_LIVE = sa.text("revoked_at_ms IS NULL")


def upgrade() -> None:
    """Creates every table, and the triggers that keep history."""
    _create_accounts()
    _create_prices()
    _create_requests()
    _create_money()
    if op.get_bind().dialect.name == "sqlite":
        _create_triggers()
    else:
        _create_postgresql_triggers()


def _create_accounts() -> None:
    accounts = op.create_table(
        "account",
        sa.Column("id", _ROW_NUMBER, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("is_prepaid", sa.Boolean, nullable=False),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("kind", "name"),
        sa.CheckConstraint("kind IN ('customer', 'house')", name="kind"),
    )
    # The house's sides of a posting: what customers were charged, and what they paid in.
    house = {"kind": "house", "is_prepaid": False, "created_at_ms": 0}
    op.bulk_insert(
        accounts, [{"id": 1, "name": "revenue", **house}, {"id": 2, "name": "funding", **house}]
    )
    if op.get_bind().dialect.name == "postgresql":
        # A number that was given by hand is not counted there.
        op.execute("SELECT setval(pg_get_serial_sequence('account', 'id'), 2)")
    op.create_table(
        "api_key",
        sa.Column("id", _ROW_NUMBER, primary_key=True),
        sa.Column("account_id", sa.BigInteger, sa.ForeignKey("account.id"), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("prefix", sa.Text, nullable=False),
        sa.Column("secret_hmac", sa.LargeBinary(32), nullable=False),
        sa.Column("sealed_signing_state", sa.LargeBinary(64)),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False),
        sa.Column("last_used_at_ms", sa.BigInteger),
        sa.Column("expires_at_ms", sa.BigInteger),
        sa.Column("revoked_at_ms", sa.BigInteger),
        sa.Column("allowed_models", sa.Text),
        sa.Column("limit_picousd", sa.BigInteger),
        sa.Column("limit_period", sa.Text),
        sa.UniqueConstraint("secret_hmac"),
        sa.CheckConstraint("limit_picousd >= 0", name="limit"),
        sa.CheckConstraint("limit_period IN ('total', 'month')", name="limit_period"),
        sa.CheckConstraint("(limit_picousd IS NULL) = (limit_period IS NULL)", name="limit_whole"),
    )
    op.create_index(
        "uq_api_key_live_name",
        "api_key",
        ["account_id", "name"],
        unique=True,
        sqlite_where=_LIVE,
        postgresql_where=_LIVE,
    )
    op.create_table(
        "scope",
        sa.Column("id", _ROW_NUMBER, primary_key=True),
        sa.Column("key_id", sa.BigInteger, sa.ForeignKey("api_key.id"), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(32), nullable=False),
        sa.Column("limit_picousd", sa.BigInteger),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("fingerprint"),
        sa.CheckConstraint("limit_picousd >= 0", name="limit"),
    )


def _create_prices() -> None:
    op.create_table(
        "price_version",
        sa.Column("version", _ROW_NUMBER, primary_key=True),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("service_tier", sa.Text, nullable=False),
        sa.Column("input_picousd", sa.BigInteger, nullable=False),
        sa.Column("cached_input_picousd", sa.BigInteger, nullable=False),
        sa.Column("output_picousd", sa.BigInteger, nullable=False),
        sa.Column("valid_from_ms", sa.BigInteger, nullable=False),
        sa.CheckConstraint(
            "input_picousd >= 0 AND cached_input_picousd >= 0 AND output_picousd >= 0",
            name="positive",
        ),
    )
    op.create_index("ix_price_version_model", "price_version", ["model", "service_tier"])


def _create_requests() -> None:
    op.create_table(
        "request",
        sa.Column("number", _ROW_NUMBER, primary_key=True),
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("account_id", sa.BigInteger, sa.ForeignKey("account.id"), nullable=False),
        sa.Column("key_id", sa.BigInteger, sa.ForeignKey("api_key.id"), nullable=False),
        sa.Column(
            "price_version", sa.BigInteger, sa.ForeignKey("price_version.version"), nullable=False
        ),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("hold_picousd", sa.BigInteger, nullable=False),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False),
        sa.Column("lease_until_ms", sa.BigInteger),
        sa.Column("prompt_tokens", sa.BigInteger),
        sa.Column("cached_tokens", sa.BigInteger),
        sa.Column("completion_tokens", sa.BigInteger),
        sa.Column("usage_source", sa.Text),
        sa.Column("outcome", sa.Text),
        sa.Column("cost_picousd", sa.BigInteger),
        sa.Column("resolved_at_ms", sa.BigInteger),
        sa.Column("scope_id", sa.BigInteger, sa.ForeignKey("scope.id")),
        sa.UniqueConstraint("request_id"),
        sa.CheckConstraint("hold_picousd >= 0", name="hold"),
        sa.CheckConstraint("cost_picousd BETWEEN 0 AND hold_picousd", name="cost_within_hold"),
        sa.CheckConstraint(
            "cached_tokens BETWEEN 0 AND prompt_tokens", name="cached_within_prompt"
        ),
        sa.CheckConstraint("completion_tokens >= 0", name="completion"),
        sa.CheckConstraint(
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
    )
    op.create_index("ix_request_created_at_ms", "request", ["created_at_ms"])
    op.create_index(
        "ix_request_held",
        "request",
        ["lease_until_ms"],
        sqlite_where=_HELD,
        postgresql_where=_HELD,
    )


def _create_money() -> None:
    op.create_table(
        "top_up",
        sa.Column("number", _ROW_NUMBER, primary_key=True),
        sa.Column("account_id", sa.BigInteger, sa.ForeignKey("account.id"), nullable=False),
        sa.Column("amount_picousd", sa.BigInteger, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False),
        sa.CheckConstraint("amount_picousd > 0", name="amount"),
    )
    op.create_table(
        "entry",
        sa.Column("reference", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("account_id", sa.BigInteger, sa.ForeignKey("account.id"), nullable=False),
        sa.Column("amount_picousd", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("reference", "kind", "account_id"),
        sa.CheckConstraint("kind IN ('charge', 'top_up')", name="kind"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "balance",
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("holder_id", sa.BigInteger, nullable=False),
        sa.Column("period", sa.Integer, nullable=False),
        sa.Column("spent_picousd", sa.BigInteger, nullable=False),
        sa.Column("held_picousd", sa.BigInteger, nullable=False),
        sa.Column("limit_picousd", sa.BigInteger),
        sa.PrimaryKeyConstraint("holder", "holder_id", "period"),
        sa.CheckConstraint("holder IN ('account', 'key', 'scope')", name="holder"),
        sa.CheckConstraint("spent_picousd >= 0 AND held_picousd >= 0", name="positive"),
        sa.CheckConstraint("spent_picousd + held_picousd <= limit_picousd", name="within_limit"),
        sqlite_with_rowid=False,
    )


def _create_triggers() -> None:
    """Creates the triggers that refuse changes of history."""
    for table in ("entry", "price_version", "top_up"):
        for deed in ("UPDATE", "DELETE"):
            _forbid(deed, table, f"{table} is append-only")
    _forbid("UPDATE", "request", "a resolved request never changes", when="OLD.state <> 'HELD'")
    _forbid("DELETE", "request", "requests are kept")


def _forbid(deed: str, table: str, reason: str, *, when: str = "1") -> None:
    op.execute(
        f"CREATE TRIGGER {table}_{deed.lower()}_forbidden BEFORE {deed} ON {table} "
        f"WHEN {when} BEGIN SELECT RAISE(ABORT, '{reason}'); END"
    )


def _create_postgresql_triggers() -> None:
    """Creates PostgreSQL's triggers as `_create_triggers` does, and refuses TRUNCATE as well."""
    op.execute(
        """
        CREATE FUNCTION forbid() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION USING MESSAGE = TG_ARGV[0], ERRCODE = 'integrity_constraint_violation';
        END
        $$
        """
    )
    for table in ("entry", "price_version", "top_up"):
        for deed in ("UPDATE", "DELETE"):
            _forbid_on_postgresql(f"{deed} ON {table} FOR EACH ROW", f"{table} is append-only")
    for table in ("entry", "price_version", "top_up", "request"):
        _forbid_on_postgresql(f"TRUNCATE ON {table}", f"{table} is append-only")
    _forbid_on_postgresql(
        "UPDATE ON request FOR EACH ROW WHEN (OLD.state <> 'HELD')",
        "a resolved request never changes",
    )
    _forbid_on_postgresql("DELETE ON request FOR EACH ROW", "requests are kept")


def _forbid_on_postgresql(deed: str, reason: str) -> None:
    verb, _, table, *_ = deed.lower().split()
    op.execute(
        f"CREATE TRIGGER {table}_{verb}_forbidden BEFORE {deed} EXECUTE FUNCTION forbid('{reason}')"
    )
