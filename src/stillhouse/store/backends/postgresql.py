"""Connects to PostgreSQL: several gateways, one writer at a time, no endless waits."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import Connection, Engine, create_engine, event, text

from stillhouse.errors import ConfigError
from stillhouse.store.backends.backend import NUM_READERS, TRANSACTION_ID, Backend
from stillhouse.store.backends.postgresql_connection import ConnectionFactory, TimeoutConnection
from stillhouse.store.backends.timeouts import ANSWER_TIMEOUT_S

#: The ledger's advisory lock: any number that no other program uses in the same database.
LOCK = int.from_bytes(b"stillhou")

_SETTINGS = {
    # COMMIT returns when the disk has it, whatever the server's default is.
    "synchronous_commit": "on",
    # Waiting for other gateways ends before this one's timeout, and keeps the connection.
    "lock_timeout": "500ms",
    # A gateway that stops in mid-transaction, or whose network does, gives up the ledger's lock.
    "idle_in_transaction_session_timeout": "1s",
    # So does one that was killed while a statement of its runs.
    "client_connection_check_interval": "500ms",
}

#: The longest time that a gateway may hold the write lock: some forty requests.
_MAX_LOCK_S = 0.03

_LOCK_AND_NAME = f"SELECT pg_current_xact_id()::text FROM pg_advisory_xact_lock({LOCK})"  # noqa: S608
_WAS_COMMITTED = text("SELECT pg_xact_status(CAST(:transaction_id AS xid8))")


def open_backend(url: str, resources: ExitStack) -> Backend:
    """
    Prepares connections to the database at *url*, in libpq's format; none is made yet.

    Raises:
        ConfigError: The URL is malformed.

    """
    factory = ConnectionFactory(_connection_parameters(url))
    resources.callback(factory.close)
    writer, reader = _create(factory, 1), _create(factory, NUM_READERS)
    resources.callback(writer.dispose)
    resources.callback(reader.dispose)
    event.listen(writer, "begin", _begin_writing)
    event.listen(reader, "begin", _begin_reading)
    return Backend(
        writer, reader, is_shared=True, max_lock_s=_MAX_LOCK_S, was_committed=_was_committed
    )


def _connection_parameters(url: str) -> dict[str, Any]:
    try:
        parameters = conninfo_to_dict(url)
    except psycopg.ProgrammingError as error:
        raise ConfigError(f"store.url: is not a PostgreSQL URL: {error}") from error
    settings = " ".join(f"-c {name}={value}" for name, value in _SETTINGS.items())
    return {
        "application_name": "stillhouse",
        # A cluster that was made without a locale would answer in bytes.
        "client_encoding": "utf8",
        # Ends an abandoned attempt; the caller times out sooner, as for any other answer.
        "connect_timeout": 2,
        **parameters,
        "options": f"{parameters.get('options') or ''} {settings}".strip(),
    }


def _create(factory: ConnectionFactory, num_connections: int) -> Engine:
    return create_engine(
        "postgresql+psycopg://",
        creator=factory,
        pool_size=num_connections,
        max_overflow=0,
    )


def _begin_writing(connection: Connection) -> None:
    """
    Begins a transaction, and acquires the ledger's write lock.

    One lock for all gateways, instead of a lock per row, so that no two can deadlock, and
    transactions of many processes behave as those of one. Each statement sees what was committed
    before it began, so all of them see every transaction that held the lock before.
    """
    driver = _driver(connection)
    driver.answer_timeout_s = ANSWER_TIMEOUT_S
    try:
        connection.exec_driver_sql("BEGIN ISOLATION LEVEL READ COMMITTED")
        transaction_id = connection.exec_driver_sql(_LOCK_AND_NAME).scalar_one()
    except Exception:
        # SQLAlchemy knows of no transaction yet, and would begin the next one within this.
        with suppress(psycopg.Error):
            driver.rollback()
        raise
    connection.info[TRANSACTION_ID] = transaction_id


def _begin_reading(connection: Connection) -> None:
    _driver(connection).answer_timeout_s = ANSWER_TIMEOUT_S
    connection.exec_driver_sql("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")


def _driver(connection: Connection) -> TimeoutConnection:
    driver = connection.connection.driver_connection
    assert isinstance(driver, TimeoutConnection)
    return driver


def _was_committed(connection: Connection, transaction_id: str) -> bool:
    """
    Returns whether a transaction took effect; called under the write lock that it held before.

    The free lock proves that the transaction has ended. The call must come soon: a server
    that crashes forgets the numbers of transactions that it has not written, and reuses them.
    """
    status = connection.execute(_WAS_COMMITTED, {"transaction_id": transaction_id}).scalar_one()
    return bool(status == "committed")
