from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import cast

import pytest

from stillhouse.billing.leases import INTERVAL_MS
from stillhouse.billing.ledger import Ledger
from stillhouse.billing.outcome import Outcome
from stillhouse.billing.transactions import LEASE_MS
from stillhouse.chat import TokenUsage
from stillhouse.errors import StoreUnavailableError
from stillhouse.store.database import Database
from tests.unit.billing.conftest import Books

USAGE = TokenUsage(prompt_tokens=149, completion_tokens=338)
COST_PICOUSD = 354_930_000
NUM_TICKS = LEASE_MS // INTERVAL_MS


async def tick(books: Books, *ledgers: Ledger) -> int:
    """Let the time of one renewal pass, and return how many holds were voided."""
    books.clock.advance(INTERVAL_MS / 1000)
    return sum([await ledger.keep_leases() for ledger in ledgers])


async def test_kept_holds_outlive_their_leases(verified: Books) -> None:
    """What a living gateway works on, however long, no other takes for abandoned."""
    other = Ledger(verified.database, verified.clock)
    hold = await verified.hold()
    voided = [await tick(verified, other, verified.ledger) for _ in range(5 * NUM_TICKS)]
    assert 0 == sum(voided)
    cost_picousd = await verified.ledger.settle(hold, usage=USAGE, outcome=Outcome.STOP)
    assert COST_PICOUSD == cost_picousd


async def test_holds_of_a_killed_gateway_are_given_back(verified: Books) -> None:
    """Within two leases of a gateway's end its holds are free, and no sooner than after one."""
    other = Ledger(verified.database, verified.clock)
    await tick(verified, other)
    await verified.hold(request_id="left")
    voided = [await tick(verified, other) for _ in range(2 * NUM_TICKS)]
    assert 0 == sum(voided[: NUM_TICKS - 1])
    assert 1 == sum(voided)
    assert (0, 0) == await verified.balance()
    assert [("VOIDED", "gateway_lost")] == await verified.rows("SELECT state, outcome FROM request")


async def test_resolved_holds_need_no_lease(verified: Books) -> None:
    """Renewing leaves alone what was settled or voided meanwhile."""
    await verified.ledger.settle(await verified.hold(), usage=USAGE, outcome=Outcome.STOP)
    await verified.ledger.void(await verified.hold(), outcome=Outcome.ENGINE_ERROR)
    await tick(verified, verified.ledger)
    assert [("SETTLED", None), ("VOIDED", None)] == await verified.rows(
        "SELECT state, lease_until_ms FROM request ORDER BY number"
    )


async def test_swept_hold_is_not_charged_later(verified: Books) -> None:
    """A gateway that was away too long is told that its request costs nothing any more."""
    other = Ledger(verified.database, verified.clock)
    hold = await verified.hold()
    for _ in range(2 * NUM_TICKS):
        await tick(verified, other)
    cost_picousd = await verified.ledger.settle(hold, usage=USAGE, outcome=Outcome.STOP)
    assert (0, (0, 0)) == (cost_picousd, await verified.balance())


async def test_many_holds_are_swept_in_several_transactions(verified: Books) -> None:
    """However many holds were left, all are given back."""
    for _ in range(201):
        await verified.hold(prompt_tokens=1, max_tokens=0)
    verified.clock.advance(LEASE_MS / 1000)
    assert 201 == await Ledger(verified.database, verified.clock).sweep()


@dataclass
class Outage:
    """A ledger's database, which can be away."""

    books: Books
    is_away: bool = False
    is_shared: bool = True

    async def write(self, work):
        if self.is_away:
            raise StoreUnavailableError("away")
        return await self.books.database.write(work)

    def submit(self, work):
        return asyncio.ensure_future(self.write(work))


@pytest.mark.parametrize("num_missed", [1, NUM_TICKS, 5 * NUM_TICKS])
async def test_outage_of_the_database_is_nobodys_death(verified: Books, num_missed: int) -> None:
    """After an outage every gateway has a lease's time to come back before others sweep."""
    outage = Outage(verified)
    database = cast("Database", outage)
    early = Ledger(database, verified.clock)
    late = Ledger(database, verified.clock)
    for _ in range(2 * NUM_TICKS):
        await tick(verified, early, late)
    hold = await late.hold(
        request_id="long",
        account_id=verified.account_id,
        key_id=verified.key_id,
        price=verified.price,
        prompt_tokens=149,
        max_tokens=1000,
    )
    outage.is_away = True
    for _ in range(num_missed):
        with suppress(StoreUnavailableError):
            await tick(verified, early)
    outage.is_away = False
    voided = [await tick(verified, early) for _ in range(NUM_TICKS - 1)]
    voided += [await tick(verified, late, early) for _ in range(2 * NUM_TICKS)]
    assert 0 == sum(voided)
    assert COST_PICOUSD == await late.settle(hold, usage=USAGE, outcome=Outcome.STOP)
