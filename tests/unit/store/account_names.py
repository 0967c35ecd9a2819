"""Short transactions for tests of the store: accounts by their names, and one that does not end."""

from __future__ import annotations

import threading
from collections.abc import Callable

from stillhouse.store.accounts import accounts
from stillhouse.store.accounts.accounts import AccountRow
from stillhouse.store.database import Connection, Database


def insert_account(name: str) -> Callable[[Connection], AccountRow]:
    return lambda connection: accounts.insert_customer(connection, name=name, created_at_ms=0)


async def names(database: Database) -> list[str]:
    return [account.name for account in await database.read(accounts.fetch_customers)]


class Gate:
    """A transaction that keeps the writer busy until it is opened, so that others wait behind."""

    def __init__(self) -> None:
        self._is_open = threading.Event()

    def __call__(self, connection: Connection) -> None:
        assert self._is_open.wait(timeout=30)

    def open(self) -> None:
        self._is_open.set()
