"""
Sums of usage by day, so that a month's statement does not read a million requests.

The index of requests by time served statements alone, and goes.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Creates the sums and fills them from the requests that there are."""
    op.create_table(
        "usage_day",
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
    op.execute(
        """
        INSERT INTO usage_day
        SELECT
            created_at_ms / 86400000, key_id, price_version,
            count(CASE WHEN state = 'SETTLED' THEN 1 END),
            count(CASE WHEN state = 'VOIDED' THEN 1 END),
            coalesce(sum(CASE WHEN state = 'SETTLED' THEN prompt_tokens END), 0),
            coalesce(sum(CASE WHEN state = 'SETTLED' THEN cached_tokens END), 0),
            coalesce(sum(CASE WHEN state = 'SETTLED' THEN completion_tokens END), 0),
            sum(cost_picousd)
        FROM request
        WHERE state <> 'HELD'
        GROUP BY created_at_ms / 86400000, key_id, price_version
        """
    )
    op.drop_index("ix_request_created_at_ms")
