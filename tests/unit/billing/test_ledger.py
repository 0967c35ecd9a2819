from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from stillhouse.billing.holds.transactions import LEASE_MS
from stillhouse.billing.ledger import Ledger
from stillhouse.billing.outcome import Outcome, UsageSource
from stillhouse.errors import StoreUnavailableError
from stillhouse.money import format_usd
from stillhouse.store.database import ConflictError
from stillhouse.types.service_tier import ServiceTier
from stillhouse.types.usage import TokenUsage
from tests.alarm import alarm
from tests.ledger_storage import locked
from tests.tariffs import usd_tariff
from tests.unit.billing.conftest import MODEL, TARIFF, Books

USAGE = TokenUsage(prompt_tokens=149, completion_tokens=338)
COST_PICOUSD = 354_930_000


async def test_hold_reserves_the_highest_possible_cost(verified: Books) -> None:
    """Before the engine starts, prompt and max_tokens at full price are set aside."""
    hold = await verified.hold(prompt_tokens=149, max_tokens=1000)
    assert 149 * 590_000 + 1000 * 790_000 == hold.ceiling_picousd
    assert (0, hold.ceiling_picousd) == await verified.balance()


async def test_settle_charges_what_was_used(verified: Books) -> None:
    """Settling charges the exact cost and gives back the rest of the hold."""
    hold = await verified.hold()
    cost_picousd = await verified.ledger.settle(hold, usage=USAGE, outcome=Outcome.STOP)
    assert "$0.00035493" == format_usd(cost_picousd)
    assert (COST_PICOUSD, 0) == await verified.balance()


async def test_settle_records_who_counted_and_why_it_ended(verified: Books) -> None:
    """The request's row says what was generated, who counted it and how the request ended."""
    hold = await verified.hold()
    verified.clock.advance(2.5)
    await verified.ledger.settle(
        hold,
        usage=TokenUsage(149, 100, 7),
        outcome=Outcome.CLIENT_DISCONNECT,
        usage_source=UsageSource.GATEWAY_COUNT,
    )
    assert [
        ("SETTLED", 149, 100, 7, "gateway_count", "client_disconnect", 2500)
    ] == await verified.rows(
        "SELECT state, prompt_tokens, cached_tokens, completion_tokens, usage_source, outcome, "
        "resolved_at_ms - created_at_ms FROM request"
    )


async def test_settle_twice_charges_once(verified: Books) -> None:
    """Settling a hold again changes nothing, so a retry is safe."""
    hold = await verified.hold()
    costs = [
        await verified.ledger.settle(hold, usage=USAGE, outcome=Outcome.STOP),
        await verified.ledger.settle(hold, usage=TokenUsage(149, 0, 999), outcome=Outcome.LENGTH),
    ]
    assert [COST_PICOUSD, COST_PICOUSD] == costs
    assert (COST_PICOUSD, 0) == await verified.balance()


async def test_void_charges_nothing_but_records_tokens(verified: Books) -> None:
    """A failure of ours costs the customer nothing, and what it wasted is on record."""
    hold = await verified.hold()
    await verified.ledger.void(hold, outcome=Outcome.ENGINE_ERROR, usage=TokenUsage(149, 0, 3))
    assert (0, 0) == await verified.balance()
    assert [("VOIDED", 149, 3, "engine", 0)] == await verified.rows(
        "SELECT state, prompt_tokens, completion_tokens, usage_source, cost_picousd FROM request"
    )


async def test_unknown_tokens_stay_unknown(verified: Books) -> None:
    """Tokens that nobody counted are NULL, never 0."""
    hold = await verified.hold()
    await verified.ledger.void(hold, outcome=Outcome.ENGINE_ERROR)
    assert [(None, None, None, None)] == await verified.rows(
        "SELECT prompt_tokens, cached_tokens, completion_tokens, usage_source FROM request"
    )


@pytest.mark.parametrize("is_settled_first", [True, False])
async def test_settle_and_void_race(verified: Books, *, is_settled_first: bool) -> None:
    """Of a settle and a void at once exactly one takes effect, and settle tells which."""
    hold = await verified.hold()
    settle = verified.ledger.settle(hold, usage=USAGE, outcome=Outcome.STOP)
    void = verified.ledger.void(hold, outcome=Outcome.ENGINE_ERROR)
    if is_settled_first:
        cost_picousd, _ = await asyncio.gather(settle, void)
    else:
        _, cost_picousd = await asyncio.gather(void, settle)
    assert (COST_PICOUSD if is_settled_first else 0) == cost_picousd
    assert (cost_picousd, 0) == await verified.balance()


async def test_200_requests_at_once_are_each_charged_once(verified: Books) -> None:
    """Concurrent requests neither lose nor double each other's money."""
    before = verified.database.num_commits

    async def request() -> int:
        hold = await verified.hold()
        return await verified.ledger.settle(hold, usage=USAGE, outcome=Outcome.STOP)

    costs = await asyncio.gather(*(request() for _ in range(200)))
    assert [COST_PICOUSD] * 200 == costs
    assert (200 * COST_PICOUSD, 0) == await verified.balance()
    assert verified.database.num_commits - before < 200


async def test_request_id_is_unique_for_ever(verified: Books) -> None:
    """A second request with an id that exists is refused and reserves nothing."""
    hold = await verified.hold(request_id="the-one")
    with pytest.raises(ConflictError):
        await verified.hold(request_id="the-one")
    assert (0, hold.ceiling_picousd) == await verified.balance()


async def test_cancelled_hold_is_given_back(verified: Books) -> None:
    """A client that leaves while its money is being reserved gets it back."""
    waiting = asyncio.create_task(verified.hold())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await verified.ledger.close()
    assert [("VOIDED", "client_disconnect")] == await verified.rows(
        "SELECT state, outcome FROM request"
    )
    assert (0, 0) == await verified.balance()


async def test_usage_above_the_hold_is_clamped_and_an_alarm(verified: Books) -> None:
    """More tokens than were held for are recorded as they are, charged as held, and reported."""
    hold = await verified.hold(max_tokens=10)
    with capture_logs() as lines:
        cost_picousd = await verified.ledger.settle(hold, usage=USAGE, outcome=Outcome.STOP)
    assert hold.ceiling_picousd == cost_picousd
    assert [(338,)] == await verified.rows("SELECT completion_tokens FROM request")
    assert [("usage_above_hold", hold.request_id)] == [
        (line["event"], line["request_id"]) for line in lines
    ]


async def test_impossible_usage_leaves_the_hold(verified: Books) -> None:
    """Counts that cannot be are refused, and the request can still be settled with better ones."""
    hold = await verified.hold()
    with pytest.raises(ValueError, match="cannot be"):
        await verified.ledger.settle(hold, usage=TokenUsage(1, 2, 3), outcome=Outcome.STOP)
    assert COST_PICOUSD == await verified.ledger.settle(hold, usage=USAGE, outcome=Outcome.STOP)


async def test_sweep_voids_what_nobody_will_settle(verified: Books) -> None:
    """At start, holds of a killed server are given back; resolved requests are left alone."""
    settled = await verified.hold()
    await verified.ledger.settle(settled, usage=USAGE, outcome=Outcome.STOP)
    await verified.hold(request_id="abandoned")
    verified.clock.advance(LEASE_MS / 1000)
    restarted = Ledger(verified.database, verified.clock)
    assert 1 == await restarted.leases.sweep()
    assert 0 == await restarted.leases.sweep()
    assert (COST_PICOUSD, 0) == await verified.balance()
    assert [("abandoned", "VOIDED", "gateway_lost", None)] == await verified.rows(
        "SELECT request_id, state, outcome, prompt_tokens FROM request WHERE state <> 'SETTLED'"
    )


async def test_same_tariff_keeps_its_version(verified: Books) -> None:
    """Starting again with the same prices publishes nothing."""
    again = await verified.ledger.prices.publish({MODEL: TARIFF})
    assert verified.price == again[MODEL][ServiceTier.DEFAULT]
    assert again == await verified.ledger.prices.publish({MODEL: TARIFF})


async def test_changed_tariff_is_a_new_version(verified: Books) -> None:
    """A change of price leaves the old version as it was, and returning to it is a third one."""
    dearer = usd_tariff("1", "2")
    versions = [
        (await verified.ledger.prices.publish({MODEL: tariff}))[MODEL][ServiceTier.DEFAULT].version
        for tariff in (dearer, dearer, TARIFF)
    ]
    first = verified.price.version
    num = len(ServiceTier)
    assert [first + num, first + num, first + 2 * num] == versions


async def test_price_is_the_one_at_admission(verified: Books) -> None:
    """A price change while a request runs does not change what it costs."""
    hold = await verified.hold()
    await verified.ledger.prices.publish({MODEL: usd_tariff("100", "100")})
    assert COST_PICOUSD == await verified.ledger.settle(hold, usage=USAGE, outcome=Outcome.STOP)


async def test_tiers_have_versions_of_their_own(verified: Books) -> None:
    """A priority request costs half as much again and a flex one a fifth less, by their rows."""
    costs = []
    prices = await verified.ledger.prices.publish({MODEL: TARIFF})
    for tier in ServiceTier:
        verified.price = prices[MODEL][tier]
        hold = await verified.hold()
        costs.append(await verified.ledger.settle(hold, usage=USAGE, outcome=Outcome.STOP))
    assert [COST_PICOUSD, COST_PICOUSD * 3 // 2, COST_PICOUSD * 4 // 5] == costs
    assert [("default",), ("priority",), ("flex",)] == await verified.rows(
        "SELECT service_tier FROM request JOIN price_version ON version = price_version "
        "ORDER BY number"
    )


async def test_free_model_moves_no_money(verified: Books) -> None:
    """A request that costs nothing is settled like any other, without entries."""
    tariff = usd_tariff("0", "0")
    verified.price = (await verified.ledger.prices.publish({"free": tariff}))["free"][
        ServiceTier.DEFAULT
    ]
    hold = await verified.hold()
    assert 0 == await verified.ledger.settle(hold, usage=USAGE, outcome=Outcome.STOP)
    assert [] == await verified.rows("SELECT * FROM entry")


async def test_settle_outlasts_an_outage(verified: Books, place: Path | str) -> None:
    """A request that ends while the ledger cannot be written is charged once it can be."""
    hold = await verified.hold()
    with locked(place), alarm("settlement_delayed") as rung:
        settle = verified.ledger.settle(hold, usage=USAGE, outcome=Outcome.STOP)
        settling = asyncio.create_task(settle)
        await asyncio.wait_for(rung.wait(), timeout=30)
    assert COST_PICOUSD == await settling


async def test_closed_ledger_does_nothing(books: Books) -> None:
    """Once the ledger is closed no request is admitted or settled, and nobody waits in vain."""
    hold = await books.hold()
    books.database.close()
    with pytest.raises(StoreUnavailableError):
        await books.hold()
    with pytest.raises(StoreUnavailableError):
        await books.ledger.settle(hold, usage=USAGE, outcome=Outcome.STOP)
