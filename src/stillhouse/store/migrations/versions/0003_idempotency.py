"""Adds idempotency keys, with the request and the answer of each."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Creates the table, empty: no request has had a key until now."""
    op.create_table(
        "idempotency_key",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True),
        sa.Column("account_id", sa.BigInteger, sa.ForeignKey("account.id"), nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(32), nullable=False),
        sa.Column("request_number", sa.BigInteger, sa.ForeignKey("request.number"), nullable=False),
        sa.Column("expires_at_ms", sa.BigInteger, nullable=False),
        sa.Column("answer", sa.LargeBinary),
        sa.UniqueConstraint("account_id", "key"),
        sa.UniqueConstraint("request_number"),
    )
    op.create_index("ix_idempotency_key_expires_at_ms", "idempotency_key", ["expires_at_ms"])
