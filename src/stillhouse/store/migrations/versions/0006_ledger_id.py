"""Adds the ledger's id, so that a home notices another ledger in its place."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Creates the table, empty: the next opening of the ledger fills it."""
    op.create_table(
        "ledger",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("probed_at_ms", sa.BigInteger, nullable=False),
    )
