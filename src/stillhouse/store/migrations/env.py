"""Run by Alembic: migrates the connection that `store/schema.py` hands over, in its transaction."""

from __future__ import annotations

from alembic import context

from stillhouse.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # SQLite's DDL is transactional once Python's sqlite3 leaves transactions alone: a process
    # killed halfway leaves the old schema.
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
