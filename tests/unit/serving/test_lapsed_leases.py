"""A gateway that was away, and whose holds another one has voided meanwhile."""

from __future__ import annotations

import asyncio

import pytest
import structlog

from stillhouse.billing.holds.transactions import LEASE_MS
from stillhouse.billing.ledger import Ledger
from stillhouse.billing.outcome import Outcome
from stillhouse.errors import InsufficientFundsError
from stillhouse.types.events import Finish
from tests.unit.serving.conftest import TARIFF, events_of

NUM_TOKENS = 40


@pytest.fixture
def place(postgresql):
    """Only a database that several gateways serve can lose a hold so."""
    return postgresql.empty_ledger()


class Permits:
    """A gate that lets so many tokens through as are asked for."""

    def __init__(self) -> None:
        self._semaphore = asyncio.Semaphore(0)

    def set(self, number: int = NUM_TOKENS) -> None:
        """Let so many more through; all of them once a sequence is cancelled."""
        for _ in range(number):
            self._semaphore.release()

    async def wait(self) -> None:
        await self._semaphore.acquire()


async def be_away(serving):
    """Let the leases end, and have another gateway void what was held."""
    serving.clock.advance(LEASE_MS / 1000)
    other = Ledger(serving.database, serving.clock)
    assert 1 == await other.leases.sweep()
    return other


async def test_holds_are_taken_back_before_a_stream_goes_on(serving):
    """Without any loop that keeps leases, the stream itself notices, and is paid as ever."""
    serving.engine.gate = Permits()
    opened = await serving.open(max_tokens=NUM_TOKENS)
    batches = opened.batches()
    first = await anext(batches)
    await be_away(serving)
    assert [("VOIDED", "gateway_lost")] == await serving.rows("state, outcome")
    serving.engine.gate.set(1)
    with structlog.testing.capture_logs() as logged:
        await anext(batches)
        assert ["hold_reacquired"] == [line["event"] for line in logged]
        serving.engine.gate.set()
        *_, last = [event async for batch in batches for event in batch]

    assert first
    assert isinstance(last, Finish)
    assert TARIFF.cost_picousd(last.usage) == last.cost_picousd
    assert [("SETTLED", "length", NUM_TOKENS)] == await serving.rows()


async def test_a_stream_whose_hold_is_not_covered_any_more_ends(serving):
    """It is told why; what it was given meanwhile passes no limit."""
    held = TARIFF.ceiling_picousd(prompt_tokens=7, max_tokens=NUM_TOKENS)
    await serving.ledger.limits.set_key_limit(serving.principal.key_id, held)
    serving.engine.gate = Permits()
    opened = await serving.open(max_tokens=NUM_TOKENS)
    batches = opened.batches()
    await anext(batches)
    other = await be_away(serving)
    meanwhile = await other.hold(
        request_id="meanwhile",
        account_id=serving.principal.account_id,
        key_id=serving.principal.key_id,
        price=serving.model.prices[opened.meta.tier],
        prompt_tokens=7,
        max_tokens=NUM_TOKENS,
    )
    serving.engine.gate.set(1)
    with pytest.raises(InsufficientFundsError, match="was away"):
        _ = [event async for batch in batches for event in batch]
    await serving.completions.drain(grace_s=5)

    (ended, _) = await serving.rows("state, outcome, completion_tokens, cost_picousd")
    assert ("VOIDED", "gateway_lost", opened.usage.completion_tokens, 0) == ended
    await other.settle(meanwhile, usage=opened.usage, outcome=Outcome.STOP)


async def test_a_request_that_waited_for_its_turn_is_held_again_before_the_engine_works(serving):
    """What is not held is not begun."""
    serving.engine.gate.clear()
    running = [await serving.open() for _ in range(serving.engine.max_sequences)]
    await serving.engine.has_begun(len(running))
    waiting = await serving.open()
    serving.clock.advance(LEASE_MS / 1000)
    assert 3 == await Ledger(serving.database, serving.clock).leases.sweep()
    serving.engine.gate.set()
    for opened in (*running, waiting):
        assert isinstance((await events_of(opened))[-1], Finish)

    assert [("SETTLED", "length", 3)] * 3 == await serving.rows()
