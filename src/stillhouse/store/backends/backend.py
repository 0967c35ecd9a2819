"""Defines the interface that SQLite and PostgreSQL implement for the store."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from sqlalchemy import Connection, Engine

#: The key under which a connection's `info` holds the id of its transaction, if the database can
#: be asked about it after the connection was lost.
TRANSACTION_ID = "transaction_id"

#: The number of connections for read transactions.
NUM_READERS = 2


def _never_committed(_connection: Connection, _transaction_id: str) -> bool:
    return False


def _begin(connection: Connection) -> AbstractContextManager[object]:
    return connection.begin()


def _nothing(_connection: Connection) -> None:
    pass


def _is_right() -> None:
    pass


@dataclass(frozen=True, slots=True)
class Backend:
    """
    Connects to the database that holds the ledger.

    On either database, write transactions run one at a time, over all processes: each waits at its
    begin for the others. So what a transaction has read stays true until it commits.

    Args:
        writer: Makes the one connection of this process that writes.
        reader: Makes connections whose transactions read a snapshot.
        is_shared: Whether several servers may use the database at once.
        write_lock: Entered around each transaction that writes, where its begin does not wait.
        transaction: Begins a transaction on the writer's connection, and commits it at the end of
            the block; an error rolls it back.
        on_commit: Called after each commit by the thread that writes and when no caller waits.
        check: Raises StoreUnavailableError if writes would be lost, as in a deleted file; called
            around each write transaction, so it takes microseconds.
        max_lock_s: How long a write transaction may hold the lock before other processes write.
        was_committed: Returns whether a transaction whose COMMIT was not answered took effect.

    """

    writer: Engine
    reader: Engine
    is_shared: bool
    write_lock: Callable[[], AbstractContextManager[None]] = nullcontext
    transaction: Callable[[Connection], AbstractContextManager[object]] = _begin
    on_commit: Callable[[Connection], None] = _nothing
    check: Callable[[], None] = _is_right
    max_lock_s: float = math.inf
    was_committed: Callable[[Connection, str], bool] = _never_committed
