"""Adds the pepper's fingerprint, so that a gateway with another pepper notices."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Creates the table, empty: the next start fills it."""
    op.create_table("pepper", sa.Column("fingerprint", sa.LargeBinary(32), primary_key=True))
