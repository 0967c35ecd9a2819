"""
Seals API keys with AES-GCM instead of as states of SHA-256, and lets scopes be purged.

The states cannot be turned into keys: a key is sealed when it is next used. Scopes that no request
was made with go at once, as their tokens need no row any more.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_FOREIGN_KEY = "fk_request_scope_id"


def upgrade() -> None:
    """Changes what keys and scopes have, and lets requests outlast their scopes."""
    if op.get_bind().dialect.name == "sqlite":
        _drop_foreign_key_on_sqlite()
    else:
        op.drop_constraint(_FOREIGN_KEY, "request")
    op.add_column("api_key", sa.Column("sealed_secret", sa.LargeBinary))
    op.execute("ALTER TABLE api_key DROP COLUMN sealed_signing_state")
    op.create_index("ix_api_key_created_at_ms", "api_key", ["created_at_ms"])
    op.add_column("scope", sa.Column("expires_at_ms", sa.BigInteger))
    op.create_index("ix_scope_expires_at_ms", "scope", ["expires_at_ms"])
    op.execute(
        "DELETE FROM scope "
        "WHERE id NOT IN (SELECT scope_id FROM request WHERE scope_id IS NOT NULL)"
    )
    op.execute(
        "DELETE FROM balance WHERE holder = 'scope' AND holder_id NOT IN (SELECT id FROM scope)"
    )


def _drop_foreign_key_on_sqlite() -> None:
    """
    Takes the constraint out of the table's text, which leaves its rows as they are.

    Source:
        sqlite.org/lang_altertable.html, section 7: what to do about constraints alone, where
        copying a ledger's largest table would take minutes.

    """
    connection = op.get_bind()
    version = connection.exec_driver_sql("PRAGMA schema_version").scalar_one()
    clause = f", \n\tCONSTRAINT {_FOREIGN_KEY} FOREIGN KEY(scope_id) REFERENCES scope (id)"
    connection.exec_driver_sql("PRAGMA writable_schema = ON")
    changed = connection.exec_driver_sql(
        "UPDATE sqlite_schema SET sql = replace(sql, ?, '') "
        "WHERE type = 'table' AND name = 'request' AND instr(sql, ?) > 0",
        (clause, clause),
    )
    assert changed.rowcount == 1, "the first schema wrote this text"
    connection.exec_driver_sql(f"PRAGMA schema_version = {version + 1}")
    connection.exec_driver_sql("PRAGMA writable_schema = RESET")
