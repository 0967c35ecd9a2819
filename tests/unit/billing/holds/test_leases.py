from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, cast

import pytest

from stillhouse.billing.holds.leases import INTERVAL_MS
from stillhouse.billing.holds.transactions import LEASE_MS
from stillhouse.billing.idempotency import Answer, PastRequests
from stillhouse.billing.idempotency_key import IdempotencyKey
from stillhouse.billing.ledger import Ledger
from stillhouse.billing.limits.spending_limits import LimitPeriod
from stillhouse.billing.outcome import Outcome
from stillhouse.errors import (
    IdempotencyConflictError,
    InsufficientFundsError,
    StillhouseError,
    StoreUnavailableError,
)
from stillhouse.store.database import ConflictError, Database
from stillhouse.types.events import ChoiceAnswer, FinishReason
from stillhouse.types.usage import TokenUsage
from tests.ledger_audit import audit_differences
from tests.unit.billing.conftest import Books

USAGE = TokenUsage(prompt_tokens=149, completion_tokens=338)
COST_PICOUSD = 354_930_000
IDEMPOTENCY_KEY = IdempotencyKey("order-7", b"f" * 32)
ANSWER = Answer((ChoiceAnswer("said", "", (), (), FinishReason.STOP),), reasoning_tokens=0)
NUM_TICKS = LEASE_MS // INTERVAL_MS


async def tick(books: Books, *ledgers: Ledger) -> int:
    """Let the time of one renewal pass, and return how many holds were voided."""
    books.clock.advance(INTERVAL_MS / 1000)
    return sum([await ledger.leases.keep() for ledger in ledgers])


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


async def lose(books: Books) -> Ledger:
    """Be away for so long that another gateway voids what is held; return that one."""
    other = Ledger(books.database, books.clock)
    for _ in range(2 * NUM_TICKS):
        await tick(books, other)
    assert {("VOIDED", "gateway_lost", None)} == set(await rows(books))
    assert (0, 0) == await books.balance()
    return other


async def rows(books: Books) -> list[tuple[Any, ...]]:
    return await books.rows("SELECT state, outcome, completion_tokens FROM request ORDER BY number")


async def test_what_was_served_while_its_hold_was_lost_is_charged_late_and_once(
    verified: Books,
) -> None:
    """A gateway that was only away settles what it served, however often it tries."""
    hold = await verified.hold()
    other = await lose(verified)
    costs = await asyncio.gather(
        *(
            ledger.settle(hold, usage=USAGE, outcome=Outcome.STOP)
            for ledger in (verified.ledger, other, verified.ledger)
        )
    )
    assert [COST_PICOUSD] * 3 == costs
    assert (COST_PICOUSD, 0) == await verified.balance()
    assert [("SETTLED", "stop", 338)] == await rows(verified)
    assert [(2,)] == await verified.rows("SELECT count(*) FROM entry")
    assert [(1, 0)] == await verified.rows("SELECT num_settled, num_voided FROM usage_day")
    assert [] == await audit_differences(verified.ledger)


async def test_our_own_fault_is_recorded_late_too(verified: Books) -> None:
    """What failed through us while its hold was lost is free, and its tokens are known."""
    hold = await verified.hold()
    await lose(verified)
    await verified.ledger.void(hold, outcome=Outcome.ENGINE_ERROR, usage=USAGE)
    assert [("VOIDED", "engine_error", 338)] == await rows(verified)
    assert 0 == await verified.ledger.settle(hold, usage=USAGE, outcome=Outcome.STOP)


async def test_what_became_of_a_lost_hold_is_for_good(verified: Books) -> None:
    """Once its tokens are known, the database refuses any change of it, as of all history."""
    hold = await verified.hold()
    await lose(verified)
    await verified.ledger.void(hold, outcome=Outcome.GATEWAY_LOST, usage=USAGE)
    statement = "UPDATE request SET completion_tokens = 1"
    with pytest.raises(ConflictError):
        await verified.database.write(lambda connection: connection.exec_driver_sql(statement))
    assert [("VOIDED", "gateway_lost", 338)] == await rows(verified)


async def test_a_lost_hold_is_taken_back(verified: Books) -> None:
    """The next renewal holds it again, and from then on nothing has happened."""
    hold = await verified.hold()
    other = await lose(verified)
    await verified.ledger.leases.renew()
    assert (0, hold.ceiling_picousd) == await verified.balance()
    assert [("HELD", None, None)] == await rows(verified)
    assert [] == await verified.rows("SELECT * FROM usage_day")
    assert 0 == await tick(verified, verified.ledger, other)
    assert COST_PICOUSD == await verified.ledger.settle(hold, usage=USAGE, outcome=Outcome.STOP)


async def test_a_hold_is_lost_and_taken_back_again_and_again(verified: Books) -> None:
    """Nothing adds up, however often a gateway is away."""
    hold = await verified.hold()
    for _ in range(3):
        await lose(verified)
        await verified.ledger.leases.renew()
        assert [] == await audit_differences(verified.ledger)
    assert COST_PICOUSD == await verified.ledger.settle(hold, usage=USAGE, outcome=Outcome.STOP)


async def test_no_limit_is_passed_by_what_is_settled_late(verified: Books) -> None:
    """What was spent meanwhile stays spent: a late cost is charged where it is covered."""
    prepaid = await verified.beside("prepaid", is_prepaid=True)
    hold_picousd = prepaid.price.ceiling_picousd(prompt_tokens=149, max_tokens=1000)
    await prepaid.ledger.limits.top_up(prepaid.account_id, hold_picousd + COST_PICOUSD - 1)
    hold = await prepaid.hold()
    other = await lose(prepaid)
    lost: list[StillhouseError] = []
    prepaid.ledger.leases.notify_if_lost(hold.held.number, lost.append)
    meanwhile = await replace(prepaid, ledger=other).hold()

    for _ in range(2):
        await prepaid.ledger.leases.renew()
    assert [InsufficientFundsError] == [type(error) for error in lost]
    assert 0 == await prepaid.ledger.settle(hold, usage=USAGE, outcome=Outcome.LAPSED)
    assert (0, hold_picousd) == await prepaid.balance()
    assert ("VOIDED", "gateway_lost", 338) == (await rows(prepaid))[0]
    await other.void(meanwhile, outcome=Outcome.ENGINE_ERROR)
    assert 0 == await prepaid.ledger.settle(hold, usage=USAGE, outcome=Outcome.STOP)


async def test_the_late_cost_may_take_the_last_pico_dollar(verified: Books) -> None:
    """Where the hold is not covered any more, the cost may be, to its last pico-dollar."""
    prepaid = await verified.beside("prepaid", is_prepaid=True)
    hold_picousd = prepaid.price.ceiling_picousd(prompt_tokens=149, max_tokens=1000)
    await prepaid.ledger.limits.top_up(prepaid.account_id, hold_picousd + COST_PICOUSD)
    hold = await prepaid.hold()
    other = await lose(prepaid)
    await replace(prepaid, ledger=other).hold()
    assert COST_PICOUSD == await prepaid.ledger.settle(hold, usage=USAGE, outcome=Outcome.LAPSED)
    assert (COST_PICOUSD, hold_picousd) == await prepaid.balance()


@pytest.mark.parametrize("period", LimitPeriod)
async def test_a_keys_limit_counts_what_is_taken_back(verified: Books, period: LimitPeriod) -> None:
    """The limits of key and account are held and spent alike, in the month of the admission."""
    await verified.ledger.limits.set_key_limit(verified.key_id, 10 * COST_PICOUSD, period=period)
    settled, reacquired = await verified.hold(), await verified.hold()
    await lose(verified)
    verified.clock.advance(40 * 86_400)
    await verified.ledger.settle(settled, usage=USAGE, outcome=Outcome.STOP)
    assert [] == await audit_differences(verified.ledger)
    await verified.ledger.leases.renew()
    assert [] == await audit_differences(verified.ledger)
    await verified.ledger.settle(reacquired, usage=USAGE, outcome=Outcome.STOP)
    assert (2 * COST_PICOUSD, 0) == await verified.balance()


@pytest.mark.parametrize("is_settled_at_once", [True, False])
async def test_a_name_is_not_charged_twice(verified: Books, *, is_settled_at_once: bool) -> None:
    """A client that has repeated its request meanwhile pays for the repetition alone."""
    first = await verified.hold(idempotency_key=IDEMPOTENCY_KEY)
    other = await lose(verified)
    second = await replace(verified, ledger=other).hold(idempotency_key=IDEMPOTENCY_KEY)
    lost: list[StillhouseError] = []
    verified.ledger.leases.notify_if_lost(first.held.number, lost.append)
    if is_settled_at_once:
        await other.settle(second, usage=USAGE, outcome=Outcome.STOP, answer=ANSWER)
    await verified.ledger.leases.renew()
    assert [IdempotencyConflictError] == [type(error) for error in lost]
    assert 0 == await verified.ledger.settle(first, usage=USAGE, outcome=Outcome.LAPSED)
    if not is_settled_at_once:
        await other.settle(second, usage=USAGE, outcome=Outcome.STOP, answer=ANSWER)
    assert (COST_PICOUSD, 0) == await verified.balance()
    assert ("VOIDED", "gateway_lost", 338) == (await rows(verified))[0]


@pytest.mark.parametrize("is_reacquired", [True, False])
async def test_a_name_comes_back_with_its_hold(verified: Books, *, is_reacquired: bool) -> None:
    """A repetition gets the answer of the first one, whose hold was lost for a while."""
    hold = await verified.hold(idempotency_key=IDEMPOTENCY_KEY)
    await lose(verified)
    if is_reacquired:
        await verified.ledger.leases.renew()
    await verified.ledger.settle(hold, usage=USAGE, outcome=Outcome.STOP, answer=ANSWER)
    past = await PastRequests(verified.database, verified.clock).find(
        verified.account_id, IDEMPOTENCY_KEY
    )
    assert past is not None
    assert (hold.request_id, COST_PICOUSD) == (past.request_id, past.cost_picousd)


async def test_leases_are_fresh_for_as_long_as_nobody_can_have_voided_them(
    verified: Books,
) -> None:
    """A gateway that was away notices by its own clock, and takes its holds back at once."""
    hold = await verified.hold()
    is_shared = verified.database.is_shared
    await verified.ledger.leases.renew()
    verified.clock.advance(LEASE_MS / 1000 - 0.001)
    assert verified.ledger.leases.are_fresh
    verified.clock.advance(0.001)
    assert is_shared != verified.ledger.leases.are_fresh
    await lose(verified)
    await asyncio.gather(*(verified.ledger.leases.refresh() for _ in range(3)))
    assert verified.ledger.leases.are_fresh
    assert [("HELD", None, None)] == await rows(verified)
    await verified.ledger.void(hold, outcome=Outcome.ENGINE_ERROR)


async def test_many_holds_are_swept_in_several_transactions(verified: Books) -> None:
    """However many holds were left, all are given back."""
    for _ in range(201):
        await verified.hold(prompt_tokens=1, max_tokens=0)
    verified.clock.advance(LEASE_MS / 1000)
    assert 201 == await Ledger(verified.database, verified.clock).leases.sweep()


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


async def test_while_the_ledger_is_down_streams_go_on_and_do_not_ask_all_the_time(
    verified: Books,
) -> None:
    """A refresh that fails is tried again an interval later, and takes back what it finds then."""
    outage = Outage(verified)
    ledger = Ledger(cast("Database", outage), verified.clock)
    hold = await replace(verified, ledger=ledger).hold()
    await lose(verified)
    outage.is_away = True
    assert not ledger.leases.are_fresh
    await ledger.leases.refresh()
    assert ledger.leases.are_fresh
    verified.clock.advance(INTERVAL_MS / 1000)
    outage.is_away = False
    assert not ledger.leases.are_fresh
    await ledger.leases.refresh()
    assert [("HELD", None, None)] == await rows(verified)
    assert COST_PICOUSD == await ledger.settle(hold, usage=USAGE, outcome=Outcome.STOP)
