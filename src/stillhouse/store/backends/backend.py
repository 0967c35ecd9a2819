"""What the two databases do differently, told in the same words."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from sqlalchemy import Connection, Engine

#: Under this name a connection's `info` keeps the id of its transaction, where the database has one
#: that can be asked about after the connection was lost.
TRANSACTION_ID = "transaction_id"

#: Transactions that only read use so many connections at once.
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
    A database that the ledger lives in.

    Whatever the database, transactions that write run one at a time, over all processes: each waits
    at its begin until it is alone. So what a transaction has read stays true until it commits.

    Args:
        writer: For the one connection of this process that writes.
        reader: For transactions that see one unchanging state and cannot change it.
        is_shared: Several servers may use it at once.
        write_lock: Entered around each transaction that writes, where its begin does not wait.
        transaction: Begins one on the writer's connection, and commits it at the block's end; an
            error undoes it.
        on_commit: Called after each commit by the thread that writes and when nobody waits for it.
        check: Raises StoreUnavailableError when what is written would be lost, as in a deleted
            file; asked around each transaction that writes, so it takes microseconds.
        max_lock_s: After so long, a transaction that writes lets other processes have theirs.
        was_committed: Whether a transaction took effect whose COMMIT was never answered.

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
