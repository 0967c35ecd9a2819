"""Another process keeps the ledger locked: nothing new begins, and what runs is settled later."""

from __future__ import annotations

import asyncio

import pytest

from stillhouse.billing.holds.transactions import LEASE_MS
from stillhouse.billing.idempotency_key import IdempotencyKey
from stillhouse.errors import (
    EngineCrashedError,
    IdempotencyConflictError,
    StoreUnavailableError,
)
from stillhouse.types.events import Finish, FinishReason, TextDelta
from tests.ledger_storage import locked

IDEMPOTENCY_KEY = IdempotencyKey("order-7", b"f" * 32)
SETTLED = ("SETTLED", "length", 3)
#: More than any bounded series of attempts had before.
MANY_ATTEMPTS = 200


@pytest.fixture
def patience_s():
    """Here the ledger is down for longer than an answer waits."""
    return 0.2


async def running(serving, **fields):
    """A completion that has told its first token and waits."""
    serving.engine.gate.clear()
    completion = await serving.open(**fields)
    events = completion.events()
    assert isinstance(await anext(events), TextDelta)
    return completion, events


async def test_new_requests_are_refused_within_a_second(serving):
    """Without a ledger nothing is generated: the refusal comes in time, and nothing stays held."""
    with locked(serving.place):
        async with asyncio.timeout(1):
            with pytest.raises(StoreUnavailableError):
                await serving.open()

    assert 0 == serving.outstanding()
    assert [] == serving.engine.requests
    await serving.answer()
    assert SETTLED == (await serving.rows())[-1]


async def test_a_repetition_is_answered_all_the_same(serving):
    """What is in the ledger can be read: a past answer needs no writing."""
    answer = await serving.answer(idempotency_key=IDEMPOTENCY_KEY)
    with locked(serving.place):
        assert answer[-1] == (await serving.answer(idempotency_key=IDEMPOTENCY_KEY))[-1]


async def test_a_running_answer_ends_and_is_settled_later(serving):
    """Its client has the whole answer without a cost, and is charged once later."""
    completion, events = await running(serving)
    with locked(serving.place):
        serving.engine.gate.set()
        *_, finish = [event async for event in events]
        assert isinstance(finish, Finish)
        assert (FinishReason.LENGTH, completion.usage, None) == (
            finish.reason,
            finish.usage,
            finish.cost_picousd,
        )
        assert 1 == serving.outstanding()
        assert [("HELD", None, None)] == await serving.rows()
    await serving.completions.drain(grace_s=10)

    assert [SETTLED] == await serving.rows()
    cost_picousd = serving.model.price.cost_picousd(completion.usage)
    assert [(cost_picousd,)] == await serving.rows("cost_picousd")
    assert 0 == serving.outstanding()


async def test_the_name_of_a_running_answer_waits_with_it(serving):
    """Until it is settled, a repetition is refused; then it gets the answer of the one charge."""
    _, events = await running(serving, idempotency_key=IDEMPOTENCY_KEY)
    with locked(serving.place):
        serving.engine.gate.set()
        assert [event async for event in events][-1].cost_picousd is None
        with pytest.raises(IdempotencyConflictError):
            await serving.open(idempotency_key=IDEMPOTENCY_KEY)
    await serving.completions.drain(grace_s=10)

    assert (await serving.open(idempotency_key=IDEMPOTENCY_KEY)).is_replay
    assert [SETTLED] == await serving.rows()


async def test_a_failed_answer_is_told_at_once_and_voided_later(serving):
    """Our engine's failure is not kept from the client until the ledger is back."""
    _, events = await running(serving)
    with locked(serving.place):
        serving.engine.failure = EngineCrashedError("it died")
        serving.engine.gate.set()
        with pytest.raises(EngineCrashedError):
            [event async for event in events]
    await serving.completions.drain(grace_s=10)

    assert [("VOIDED", "engine_error", 1)] == await serving.rows()


async def test_a_server_that_ends_meanwhile_leaves_it_to_the_next(serving, monkeypatch):
    """When the ledger stays down, shutting down does not hang; the next start charges nothing."""
    monkeypatch.setattr("stillhouse.serving.completions._LAST_CHANCE_S", -4.9)
    completion, _ = await running(serving)
    with locked(serving.place):
        serving.engine.gate.set()
        await serving.completions.drain(grace_s=0)
        with pytest.raises(StoreUnavailableError):  # and so do all writes that wait before it
            await serving.database.write(lambda _connection: None)
        assert [("HELD", None, None)] == await serving.rows()
    serving.clock.advance(LEASE_MS / 1000)
    await serving.ledger.leases.sweep()

    assert [("VOIDED", "gateway_lost", None)] == await serving.rows()
    assert 0 == serving.outstanding()
    assert 3 == completion.usage.completion_tokens


async def test_it_tries_until_the_ledger_is_back(serving, monkeypatch):
    """A settlement is retried for as long as the ledger cannot be written, without an end."""
    monkeypatch.setattr("stillhouse.billing.ledger._MAX_RETRY_DELAY_S", 0)
    attempts, write = asyncio.Event(), serving.database.write
    num_attempts = 0

    async def counting_write(work):
        nonlocal num_attempts
        num_attempts += 1
        if num_attempts > MANY_ATTEMPTS:
            attempts.set()
            return await write(work)
        raise StoreUnavailableError("down")

    completion, _ = await running(serving)
    monkeypatch.setattr(serving.database, "write", counting_write)
    serving.engine.gate.set()
    await attempts.wait()
    await serving.completions.drain(grace_s=10)

    assert [SETTLED] == await serving.rows()
    assert completion.usage.completion_tokens == 3
