"""Migrates a ledger's schema when the ledger is opened."""

from __future__ import annotations

import time
from pathlib import Path

from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import OperationalError, ProgrammingError

from stillhouse.errors import ConfigError, StoreUnavailableError
from stillhouse.store.backends.backend import Backend
from stillhouse.store.backends.library_error import is_busy
from stillhouse.store.backends.timeouts import extend_timeout

#: The newest migration; here so that an up-to-date ledger opens without loading Alembic.
HEAD = "0009"

#: The longest wait of a starting server for another process that migrates.
_MIGRATION_TIMEOUT_S = 60.0

_ALLOW_PAUSES = text("SET LOCAL idle_in_transaction_session_timeout = '60s'")

_MIGRATIONS = Path(__file__).with_name("migrations")


def ensure_current(backend: Backend) -> None:
    """
    Runs the missing migrations, all in one transaction.

    Raises:
        ConfigError: A newer stillhouse has changed the schema.
        StoreUnavailableError: Another process held the write lock for too long.

    """
    deadline_s = time.monotonic() + _MIGRATION_TIMEOUT_S
    while not _is_current(backend):
        try:
            with backend.write_lock(), backend.writer.begin() as connection:
                extend_timeout(connection)
                if backend.is_shared:  # to load Alembic takes a second on a machine that is busy
                    connection.execute(_ALLOW_PAUSES)
                # Another process may have done it meanwhile; then Alembic finds nothing to do.
                _upgrade(connection)
        except (OperationalError, StoreUnavailableError) as error:
            # Most likely another process is migrating, and longer than a request would wait.
            if not is_busy(error) or time.monotonic() > deadline_s:
                raise


def _is_current(backend: Backend) -> bool:
    with backend.reader.connect() as connection:
        version = fetch_version(connection)
    if version is not None and version > HEAD:
        raise ConfigError(
            f"The ledger has schema {version}, and this stillhouse knows schemas up to {HEAD}. "
            "Install the version that wrote it, or a newer one."
        )
    return version == HEAD


def fetch_version(connection: Connection) -> str | None:
    """Returns the ledger's newest migration, or None for an empty database."""
    try:
        version: str = connection.execute(
            text("SELECT version_num FROM alembic_version")
        ).scalar_one()
    except (OperationalError, ProgrammingError):
        connection.rollback()
        if inspect(connection).has_table("alembic_version"):
            raise
        return None
    return version


def _upgrade(connection: Connection, revision: str = "head") -> None:
    # Loading Alembic takes as long as opening fifty ledgers that need no migration.
    from alembic import command  # noqa: PLC0415  (as said above)
    from alembic.config import Config  # noqa: PLC0415  (as said above)

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)
