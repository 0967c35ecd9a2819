"""
Adds archives: months of requests that were moved into files, and their sums.

A request may be deleted, with its entries, only in a transaction that moves it into those sums.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

_ROW_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_IS_MOVING = "EXISTS (SELECT 1 FROM archive WHERE is_moving)"


def upgrade() -> None:
    """Creates the tables, empty, and lets their transactions delete the archived requests."""
    _create_tables()
    if op.get_bind().dialect.name == "sqlite":
        _replace("request", f"NOT {_IS_MOVING}", "requests are kept")
        _replace("entry", f"OLD.kind <> 'charge' OR NOT {_IS_MOVING}", "entry is append-only")
        for table in ("archived_day", "carried"):
            op.execute(
                f"CREATE TRIGGER {table}_delete_forbidden BEFORE DELETE ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{table} is kept'); END"
            )
    else:
        _replace_on_postgresql()


def _create_tables() -> None:
    op.create_table(
        "archive",
        sa.Column("number", _ROW_NUMBER, primary_key=True),
        sa.Column("before_ms", sa.BigInteger, nullable=False),
        sa.Column("file", sa.Text, nullable=False),
        sa.Column("sha256", sa.Text),
        sa.Column("num_requests", sa.BigInteger, nullable=False),
        sa.Column("is_moving", sa.Boolean, nullable=False),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False),
        sa.Column("finished_at_ms", sa.BigInteger),
    )
    op.create_table(
        "archived_day",
        sa.Column("day", sa.Integer, nullable=False),
        sa.Column("key_id", sa.BigInteger, sa.ForeignKey("api_key.id"), nullable=False),
        sa.Column(
            "price_version", sa.BigInteger, sa.ForeignKey("price_version.version"), nullable=False
        ),
        sa.Column("num_settled", sa.BigInteger, nullable=False),
        sa.Column("num_voided", sa.BigInteger, nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger, nullable=False),
        sa.Column("cached_tokens", sa.BigInteger, nullable=False),
        sa.Column("completion_tokens", sa.BigInteger, nullable=False),
        sa.Column("cost_picousd", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("day", "key_id", "price_version"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "carried",
        sa.Column("archive", sa.BigInteger, sa.ForeignKey("archive.number"), nullable=False),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("holder_id", sa.BigInteger, nullable=False),
        sa.Column("amount_picousd", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("archive", "holder", "holder_id"),
        sa.CheckConstraint("holder IN ('account', 'scope')", name="holder"),
        sqlite_with_rowid=False,
    )


def _replace(table: str, when: str, reason: str) -> None:
    op.execute(f"DROP TRIGGER {table}_delete_forbidden")
    op.execute(
        f"CREATE TRIGGER {table}_delete_forbidden BEFORE DELETE ON {table} "
        f"WHEN {when} BEGIN SELECT RAISE(ABORT, '{reason}'); END"
    )


def _replace_on_postgresql() -> None:
    op.execute(
        f"""
        CREATE FUNCTION forbid_unless_moving() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF {_IS_MOVING} THEN RETURN OLD; END IF;
            RAISE EXCEPTION USING MESSAGE = TG_ARGV[0], ERRCODE = 'integrity_constraint_violation';
        END
        $$
        """
    )
    for table, reason in (("request", "requests are kept"), ("entry", "entry is append-only")):
        op.execute(f"DROP TRIGGER {table}_delete_forbidden ON {table}")
        op.execute(
            f"CREATE TRIGGER {table}_delete_forbidden BEFORE DELETE ON {table} FOR EACH ROW "
            f"EXECUTE FUNCTION forbid_unless_moving('{reason}')"
        )
    op.execute(
        "CREATE TRIGGER entry_top_up_delete_forbidden BEFORE DELETE ON entry FOR EACH ROW "
        "WHEN (OLD.kind <> 'charge') EXECUTE FUNCTION forbid('entry is append-only')"
    )
    for table in ("archived_day", "carried"):
        for deed in ("DELETE ON {} FOR EACH ROW", "TRUNCATE ON {}"):
            verb = deed.partition(" ")[0].lower()
            op.execute(
                f"CREATE TRIGGER {table}_{verb}_forbidden BEFORE {deed.format(table)} "
                f"EXECUTE FUNCTION forbid('{table} is kept')"
            )
