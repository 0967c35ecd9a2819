from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from stillhouse.billing.idempotency_key import IdempotencyKey
from stillhouse.billing.ledger import Hold, Ledger
from stillhouse.billing.price import Price
from stillhouse.clock import FrozenClock
from stillhouse.store.accounts import accounts, keys
from stillhouse.store.database import Connection, Database
from stillhouse.types.service_tier import ServiceTier
from tests.ledger_audit import audit_differences
from tests.tariffs import usd_tariff

MODEL = "stillhouse/demo-r1"
TARIFF = usd_tariff("0.59", "0.79")


@dataclass
class Books:
    """A ledger with one account, one key and one price, for tests."""

    database: Database
    ledger: Ledger
    clock: FrozenClock
    account_id: int
    key_id: int
    price: Price
    numbers: count[int] = field(default_factory=count)

    @classmethod
    async def open(cls, database: Database) -> Books:
        clock = FrozenClock()
        ledger = Ledger(database, clock)
        account_id, key_id = await database.write(insert_customer("customer"))
        prices = await ledger.prices.publish({MODEL: TARIFF})
        return cls(database, ledger, clock, account_id, key_id, prices[MODEL][ServiceTier.DEFAULT])

    async def beside(self, name: str, *, is_prepaid: bool = False) -> Books:
        """The same ledger as another customer sees it."""
        ids = await self.database.write(insert_customer(name, is_prepaid=is_prepaid))
        return replace(self, account_id=ids[0], key_id=ids[1])

    def on(self, database: Database) -> Books:
        """The same customer as another gateway on the ledger sees it."""
        return replace(self, database=database, ledger=Ledger(database, self.clock))

    def at(self, price: Price) -> Books:
        """The same customer, asking at another price."""
        return replace(self, price=price)

    async def hold(
        self,
        *,
        request_id: str | None = None,
        prompt_tokens: int = 149,
        max_tokens: int = 1000,
        idempotency_key: IdempotencyKey | None = None,
    ) -> Hold:
        return await self.ledger.hold(
            request_id=request_id or f"request-{next(self.numbers)}",
            account_id=self.account_id,
            key_id=self.key_id,
            price=self.price,
            prompt_tokens=prompt_tokens,
            max_tokens=max_tokens,
            idempotency_key=idempotency_key,
        )

    async def balance(self) -> tuple[int, int]:
        """What the account has spent and holds, in pico-dollars."""
        (row,) = await self.rows(
            "SELECT spent_picousd, held_picousd FROM balance "
            f"WHERE holder = 'account' AND holder_id = {self.account_id}"
        )
        return row[0], row[1]

    async def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return await self.database.read(
            lambda connection: [tuple(row) for row in connection.exec_driver_sql(sql)]
        )

    async def tamper(self, *statements: str) -> None:
        """Change rows as somebody would who has the file and no scruples."""

        def change(connection: Connection) -> None:
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql("SET LOCAL session_replication_role = replica")
            else:
                names = connection.exec_driver_sql(
                    "SELECT name FROM sqlite_master WHERE type = 'trigger'"
                ).scalars()
                for name in list(names):
                    connection.exec_driver_sql(f"DROP TRIGGER {name}")
            for statement in statements:
                connection.exec_driver_sql(statement)

        await self.database.write(change)


def insert_customer(
    name: str, *, is_prepaid: bool = False
) -> Callable[[Connection], tuple[int, int]]:
    """A transaction that inserts an account and a key of it, and returns their ids."""

    def insert(connection: Connection) -> tuple[int, int]:
        account = accounts.insert_customer(
            connection, name=name, created_at_ms=0, is_prepaid=is_prepaid
        )
        key = keys.insert_key(
            connection,
            account_id=account.id,
            name="key",
            prefix="sh_",
            secret_hmac=name.encode(),
            created_at_ms=0,
        )
        return account.id, key.id

    return insert


@pytest.fixture
async def books(place: Path | str) -> AsyncIterator[Books]:
    """A new ledger, which the test may spoil."""
    with Database.open(place, is_server=True) as database:
        books = await Books.open(database)
        yield books
        await books.ledger.close()


@pytest.fixture
async def verified(books: Books) -> AsyncIterator[Books]:
    """As `books`, and the ledger is verified when the test has ended."""
    yield books
    assert [] == await audit_differences(books.ledger)
