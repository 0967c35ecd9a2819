"""By what a ledger is known, so that a home notices another one in its place."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Create the table, empty: whoever opens the ledger next fills it."""
    op.create_table(
        "ledger",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("probed_at_ms", sa.BigInteger, nullable=False),
    )
