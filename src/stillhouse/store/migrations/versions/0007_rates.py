"""Adds accounts' use of their minutes, counted over all gateways of a database."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Creates the table, empty, and the index of requests in flight for shared ledgers."""
    op.create_table(
        "rate",
        sa.Column("account_id", sa.BigInteger, sa.ForeignKey("account.id"), nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("full_at_ns", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("account_id", "model", "kind"),
        sqlite_with_rowid=False,
    )
    if op.get_bind().dialect.name == "postgresql":
        op.create_index(
            "ix_request_held_account",
            "request",
            ["account_id"],
            postgresql_where=sa.text("state = 'HELD'"),
        )
