from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from stillhouse.billing.holds.leases import INTERVAL_MS
from stillhouse.billing.holds.transactions import LEASE_MS
from stillhouse.billing.ledger import Ledger
from stillhouse.billing.outcome import Outcome
from stillhouse.errors import StoreUnavailableError
from stillhouse.store.database import Database
from stillhouse.types.usage import TokenUsage
from tests.alarm import alarm
from tests.fault_proxy import CommitFault, FaultProxy
from tests.unit.billing.conftest import Books

USAGE = TokenUsage(prompt_tokens=149, completion_tokens=338)
COST_PICOUSD = 354_930_000

faults = pytest.mark.parametrize("fault", CommitFault)
outages = pytest.mark.parametrize(
    "begin", [FaultProxy.cut, lambda proxy: proxy.flowing.clear()], ids=["cut", "silent"]
)


async def use(books: Books) -> int:
    hold = await books.hold()
    return await books.ledger.settle(hold, usage=USAGE, outcome=Outcome.STOP)


@outages
async def test_outage_refuses_within_a_second_and_ends_by_itself(
    books: Books, proxy: FaultProxy, begin: Callable[[FaultProxy], None]
) -> None:
    """While the database is away every hold is refused in time; afterwards nothing is left."""
    await use(books)
    begin(proxy)
    for _ in range(2):  # on connections that are lost, and with none
        started_s = time.monotonic()
        waiting = [asyncio.create_task(books.hold()) for _ in range(5)]
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert 1 > time.monotonic() - started_s
        assert {StoreUnavailableError} == {type(result) for result in results}
    proxy.mend()
    await use(books)
    assert (2 * COST_PICOUSD, 0) == await books.balance()


@outages
async def test_outage_does_not_hold_up_readers(
    books: Books, proxy: FaultProxy, begin: Callable[[FaultProxy], None]
) -> None:
    """While the database is away keys cannot be looked up, and that is known in time as well."""
    await use(books)
    begin(proxy)
    started_s = time.monotonic()
    reading = [books.balance() for _ in range(20)]
    results = await asyncio.gather(*reading, return_exceptions=True)
    assert 1 > time.monotonic() - started_s
    assert {StoreUnavailableError} == {type(result) for result in results}
    proxy.mend()
    assert (COST_PICOUSD, 0) == await books.balance()


async def test_broken_connections_are_replaced_unnoticed(books: Books, proxy: FaultProxy) -> None:
    """When connections break while the database is there, no request is refused."""
    for _ in range(5):
        proxy.blink()
        await use(books)
        proxy.blink()
        await books.balance()
    assert (5 * COST_PICOUSD, 0) == await books.balance()


@faults
async def test_hold_whose_commit_is_lost_is_held_once(
    books: Books, proxy: FaultProxy, fault: CommitFault
) -> None:
    """After a lost COMMIT the gateway checks its outcome: one hold exists, and is settled."""
    proxy.fail_next_commit(fault)
    hold = await books.hold()
    assert (0, hold.ceiling_picousd) == await books.balance()
    await books.ledger.settle(hold, usage=USAGE, outcome=Outcome.STOP)
    assert (COST_PICOUSD, 0) == await books.balance()


@faults
async def test_settle_whose_commit_is_lost_charges_once(
    books: Books, proxy: FaultProxy, fault: CommitFault
) -> None:
    """Settling is neither forgotten nor done twice when its COMMIT's answer does not come."""
    hold = await books.hold()
    proxy.fail_next_commit(fault)
    cost_picousd = await books.ledger.settle(hold, usage=USAGE, outcome=Outcome.STOP)
    assert (COST_PICOUSD, (COST_PICOUSD, 0)) == (cost_picousd, await books.balance())


@faults
async def test_top_up_whose_commit_is_lost_is_credited_once(
    books: Books, proxy: FaultProxy, fault: CommitFault
) -> None:
    """A top-up, which is not idempotent, is not repeated: a payment counts once."""
    prepaid = await books.beside("prepaid", is_prepaid=True)
    proxy.fail_next_commit(fault)
    await prepaid.ledger.limits.top_up(prepaid.account_id, 5)
    assert [(5,)] == await books.rows("SELECT amount_picousd FROM top_up")


@faults
async def test_group_whose_commit_is_lost_is_written_once(
    books: Books, proxy: FaultProxy, fault: CommitFault
) -> None:
    """Requests that share a lost COMMIT are each admitted once."""
    proxy.fail_next_commit(fault)
    holds = await asyncio.gather(*(books.hold() for _ in range(20)))
    assert (0, sum(hold.ceiling_picousd for hold in holds)) == await books.balance()
    for hold in holds:
        await books.ledger.void(hold, outcome=Outcome.ENGINE_ERROR)


@faults
async def test_hold_that_nobody_knows_of_is_given_back(
    books: Books, proxy: FaultProxy, fault: CommitFault
) -> None:
    """A hold whose caller was refused, committed or not, is free again after its lease."""
    proxy.fail_next_commit(fault, then_cut=True)
    with pytest.raises(StoreUnavailableError):
        await books.hold()
    proxy.mend()
    expected = 1 if fault is CommitFault.UNANSWERED else 0
    assert [(expected,)] == await books.rows("SELECT count(*) FROM request WHERE state = 'HELD'")
    num_voided = 0
    for _ in range(LEASE_MS // INTERVAL_MS + 2):
        num_voided += await books.ledger.leases.keep()
        books.clock.advance(INTERVAL_MS / 1000)
    assert (expected, (0, 0)) == (num_voided, await books.balance())


@faults
async def test_settle_outlasts_an_outage_that_began_at_its_commit(
    books: Books, proxy: FaultProxy, fault: CommitFault
) -> None:
    """A settle that is in doubt for a while is tried until it is certain, and counts once."""
    hold = await books.hold()
    proxy.fail_next_commit(fault, then_cut=True)
    with alarm("settlement_delayed") as rung:
        settle = books.ledger.settle(hold, usage=USAGE, outcome=Outcome.STOP)
        settling = asyncio.create_task(settle)
        await asyncio.wait_for(rung.wait(), timeout=30)
    proxy.mend()
    assert (COST_PICOUSD, (COST_PICOUSD, 0)) == (await settling, await books.balance())


async def test_lock_of_a_gateway_that_is_cut_off_goes_to_the_next(
    books: Books, proxy: FaultProxy, url: str
) -> None:
    """A gateway whose network goes silent in mid-transaction does not stop the others for long."""
    hold = await books.hold()
    with pytest.raises(StoreUnavailableError):
        await books.database.write(lambda _: proxy.flowing.clear())
    with Database.open(url) as database:
        other = Ledger(database, books.clock)
        cost_picousd = await other.settle(hold, usage=USAGE, outcome=Outcome.STOP)
    proxy.mend()
    assert (COST_PICOUSD, (COST_PICOUSD, 0)) == (cost_picousd, await books.balance())
