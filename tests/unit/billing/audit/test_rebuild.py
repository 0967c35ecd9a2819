from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest

from stillhouse.billing.audit import rebuild as rebuild_module
from stillhouse.billing.ledger import Hold
from stillhouse.billing.outcome import Outcome
from stillhouse.store.database import Connection, Database
from stillhouse.types.usage import TokenUsage
from tests.ledger_audit import audit_differences
from tests.unit.billing.conftest import Books
from tests.unit.billing.limits.test_spending_limits import CEILING_PICOUSD

USAGE = TokenUsage(prompt_tokens=149, completion_tokens=338)

T = TypeVar("T")


class Busy:
    """A database beside which something happens after each look and before what follows from it."""

    def __init__(self, database: Database, happens: Callable[[], Awaitable[object]]) -> None:
        self._database = database
        self._happens = happens
        self.num_looks = 0
        self.num_writes = 0

    async def read(self, work: Callable[[Connection], T]) -> T:
        result = await self._database.read(work)
        self.num_looks += 1
        if self.num_looks == 1:
            await self._happens()
        return result

    async def write(self, work: Callable[[Connection], T]) -> T:
        self.num_writes += 1
        return await self._database.write(work)


async def settle(books: Books, hold: Hold) -> None:
    await books.ledger.settle(hold, usage=USAGE, outcome=Outcome.STOP)


@pytest.mark.parametrize(
    "loss",
    [
        "UPDATE balance SET spent_picousd = 0, held_picousd = 0",
        "UPDATE balance SET spent_picousd = spent_picousd + 1",
        "DELETE FROM balance",
        "DELETE FROM usage_day",
        "UPDATE usage_day SET cost_picousd = 0, num_settled = num_settled + 5",
        "INSERT INTO balance VALUES ('scope', 77, 0, 1, 1, 5)",
        "INSERT INTO usage_day VALUES (5, 1, 1, 1, 1, 1, 1, 1, 1)",
    ],
)
async def test_sums_are_right_whatever_happens_beside_their_rebuild(
    books: Books, loss: str
) -> None:
    """Requests that come and go while wrong sums are looked for are in the sums that come out."""
    prepaid = await books.beside("prepaid", is_prepaid=True)
    await prepaid.ledger.limits.top_up(prepaid.account_id, 9 * CEILING_PICOUSD)
    await books.ledger.limits.set_key_limit(books.key_id, 9 * CEILING_PICOUSD)
    customers = (books, prepaid)
    ending = [(customer, await customer.hold()) for customer in customers]
    for customer in customers:
        await settle(customer, await customer.hold())
    await books.tamper(loss)

    async def happen() -> None:
        if "DELETE FROM balance" not in loss:  # then nobody can be admitted
            for customer in customers:
                await customer.hold()
                await settle(customer, await customer.hold())
            await prepaid.ledger.limits.top_up(prepaid.account_id, CEILING_PICOUSD)
            await books.ledger.limits.set_key_limit(books.key_id, 10 * CEILING_PICOUSD)
        for customer, hold in ending:
            await settle(customer, hold)

    busy: Any = Busy(books.database, happen)
    rebuilt = await rebuild_module.rebuild(busy)
    assert rebuilt.is_right
    assert rebuilt.num_corrected > 0
    # A row that was missing was not told of requests, and a limit that was set meanwhile began with
    # wrong days: that takes a further look.
    if "balance" in loss and "DELETE" not in loss:
        assert 2 == busy.num_looks
    assert [] == await audit_differences(books.ledger)


async def test_right_sums_are_left_alone(books: Books) -> None:
    """Where nothing is wrong, nothing is written, whatever requests do meanwhile."""
    hold = await books.hold()

    async def happen() -> None:
        await settle(books, hold)
        await books.hold()

    busy: Any = Busy(books.database, happen)
    assert rebuild_module.RebuildResult(0, is_right=True) == await rebuild_module.rebuild(busy)
    assert (1, 0) == (busy.num_looks, busy.num_writes)


async def test_a_transaction_ends_when_it_has_taken_its_time(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many sums are wrong, others write between any two that take long."""
    monkeypatch.setattr(rebuild_module, "_SLICE_S", 0)
    for number in range(5):
        customer = await books.beside(f"customer {number}")
        await settle(customer, await customer.hold())
    await books.tamper("UPDATE balance SET spent_picousd = 0")
    busy: Any = Busy(books.database, books.hold)
    rebuilt = await rebuild_module.rebuild(busy)
    assert (5, 5, True) == (rebuilt.num_corrected, busy.num_writes, rebuilt.is_right)


async def test_a_key_that_is_above_its_limit_has_no_balance(books: Books) -> None:
    """Spent more than its limit, a key's balance cannot be kept, and none of its requests runs."""
    await books.ledger.limits.set_key_limit(books.key_id, CEILING_PICOUSD)
    await settle(books, await books.hold())
    await books.tamper(
        "UPDATE api_key SET limit_picousd = 1", "UPDATE balance SET limit_picousd = NULL"
    )
    assert (await books.ledger.auditor.rebuild()).is_right
    assert [] == await audit_differences(books.ledger)
