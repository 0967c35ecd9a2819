"""Requests that wait for their turn at the engine, which here works on two sequences at once."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from stillhouse.billing.idempotency_key import IdempotencyKey
from stillhouse.billing.outcome import Outcome
from stillhouse.catalogue.demo_models import DEMO_MODEL
from stillhouse.errors import EngineCrashedError, EngineUnavailableError, OverloadedError
from stillhouse.serving.queue.config import QueueConfig
from stillhouse.types.service_tier import ServiceTier
from tests.unit.billing.conftest import insert_customer
from tests.unit.serving.conftest import events_of

IDEMPOTENCY_KEY = IdempotencyKey("mine", b"f" * 32)
NOTHING_CHARGED = "state, outcome, usage_source, prompt_tokens, completion_tokens, cost_picousd"
patience = pytest.mark.parametrize("max_wait_s", [0])


@pytest.fixture
def place(tmp_path):
    """Which database it is makes no difference here."""
    return tmp_path / "ledger.db"


@pytest.fixture
def max_wait_s():
    """Longer than any test takes."""
    return 600


@pytest.fixture
def queue_rules(max_wait_s):
    return QueueConfig(
        max_outstanding=5,
        max_wait_s=max_wait_s,
        flex_max_wait_s=max_wait_s,
        prompt_window_tokens=8,  # prompts have 7 tokens, of which half a window counts
    )


@pytest.fixture
async def running(serving):
    """Two requests that keep the engine busy until its gate is opened."""
    serving.engine.gate.clear()
    running = [await serving.open(max_tokens=4) for _ in range(2)]
    await serving.engine.has_begun(2)
    return running


def sample(serving, name, **labels):
    return serving.metrics.registry.get_sample_value(name, {"model": DEMO_MODEL} | labels)


def num_waiting(serving, tier="default"):
    return sample(serving, "stillhouse_waiting_requests", tier=tier)


async def is_waiting(serving, num_requests=1):
    """Return when so many requests of the default tier wait."""
    async with asyncio.timeout(30):
        while num_waiting(serving) != num_requests:  # noqa: ASYNC110  (the gauge is what is tested)
            await asyncio.sleep(0)


async def test_who_waits_is_served_when_one_has_ended(serving, running):
    """The engine is never given more than it works on, and everybody is answered."""
    waiting = await serving.open()
    await is_waiting(serving)
    asked_before = len(serving.engine.requests)
    serving.engine.gate.set()
    for opened in (*running, waiting):
        await events_of(opened)

    assert 2 == asked_before
    assert 3 == len(serving.engine.requests)
    assert 0 == num_waiting(serving)
    assert 3 == sample(serving, "stillhouse_time_in_queue_seconds_count", tier="default")


async def test_a_client_that_leaves_the_queue_pays_nothing(serving, running):
    """Its request is out of the queue at once, its hold given back, and the next goes."""
    left, last = [await serving.open() for _ in range(2)]
    await is_waiting(serving, 2)
    left.stop(Outcome.CLIENT_DISCONNECT)

    assert 1 == num_waiting(serving)
    serving.engine.gate.set()
    for opened in (*running, last):
        await events_of(opened)
    with pytest.raises(EngineUnavailableError):
        await events_of(left)
    rows = await serving.rows(NOTHING_CHARGED)
    assert ("VOIDED", "client_disconnect", "gateway_count", 0, 0, 0) == rows[2]
    assert 3 == len(serving.engine.requests)


async def test_a_named_request_keeps_waiting_without_its_client(serving, running):
    """It will be repeated, and finds its answer then."""
    named = await serving.open(idempotency_key=IDEMPOTENCY_KEY)
    await is_waiting(serving)
    named.stop(Outcome.CLIENT_DISCONNECT)
    still_waiting = num_waiting(serving)
    serving.engine.gate.set()
    for opened in (*running, named):
        await events_of(opened)

    assert 1 == still_waiting
    assert (await serving.open(idempotency_key=IDEMPOTENCY_KEY)).is_replay


@patience
async def test_a_turn_that_does_not_come_in_time(serving, running):
    """The request is refused as busy, pays nothing and gives its place back."""
    late = await serving.open()
    with pytest.raises(OverloadedError, match="Model busy, retry later"):
        await events_of(late)
    serving.engine.gate.set()
    for opened in running:
        await events_of(opened)
    await serving.completions.drain(grace_s=5)

    rows = await serving.rows(NOTHING_CHARGED)
    assert ("VOIDED", "deadline", "gateway_count", 0, 0, 0) == rows[2]
    assert (0, 0) == (num_waiting(serving), serving.outstanding())
    assert 1 == sample(serving, "stillhouse_queue_refusals_total", reason="waited")


@patience
async def test_a_named_request_that_was_refused_may_be_repeated(serving, running):
    """A refusal is no answer: the repetition is a new try."""
    late = await serving.open(idempotency_key=IDEMPOTENCY_KEY)
    with pytest.raises(OverloadedError):
        await events_of(late)
    serving.engine.gate.set()
    for opened in running:
        await events_of(opened)

    assert 3 == (await serving.answer(idempotency_key=IDEMPOTENCY_KEY))[-1].usage.completion_tokens


async def test_fail_fast_is_refused_whatever_its_tier(serving, running):
    """Before anything is held, and priority does not help."""
    with pytest.raises(OverloadedError, match="Model busy"):
        await serving.open(fail_fast=True, tier=ServiceTier.PRIORITY)

    assert 2 == len(await serving.rows())
    assert 2 == serving.outstanding()
    serving.engine.gate.set()
    for opened in running:
        await events_of(opened)


async def test_fail_fast_counts_sequences(serving):
    """One request of two answers fills an engine of two; so one of two does not go beside one."""
    serving.engine.gate.clear()
    running = await serving.open(max_tokens=4)
    await serving.engine.has_begun()
    with pytest.raises(OverloadedError, match="Model busy"):
        await serving.open(fail_fast=True, n=2)
    beside = await serving.open(fail_fast=True)
    serving.engine.gate.set()

    for opened in (running, beside):
        await events_of(opened)


async def test_fail_fast_that_was_overtaken_while_its_cost_was_held(serving):
    """Of several that came at once to an engine with room, those are refused that find none."""
    serving.engine.gate.clear()
    opened = await asyncio.gather(*(serving.open(fail_fast=True) for _ in range(3)))
    serving.engine.gate.set()
    ends = await asyncio.gather(*map(events_of, opened), return_exceptions=True)
    await serving.completions.drain(grace_s=5)

    assert [False, False, True] == sorted(isinstance(end, OverloadedError) for end in ends)
    assert 2 == len(serving.engine.requests)
    assert 1 == (await serving.rows()).count(("VOIDED", "deadline", 0))


async def test_a_full_model_refuses_with_an_honest_time(serving, running):
    """It is refused before its hold, and told how long those before it will take at this pace."""
    waiting = [await serving.open() for _ in range(3)]
    await is_waiting(serving, 3)
    serving.clock.advance(5)
    with pytest.raises(OverloadedError, match="Model busy, retry later") as refusal:
        await serving.open()

    assert 5 == len(await serving.rows())
    assert 4 * 5 == refusal.value.retry_after_s  # nothing has ended in five seconds
    assert 1 == sample(serving, "stillhouse_queue_refusals_total", reason="full")
    serving.engine.gate.set()
    for opened in (*running, *waiting):
        await events_of(opened)


async def test_each_answer_that_ends_makes_room(serving):
    """A request of two answers holds two places until the first of them has ended."""
    serving.engine.gate.clear()
    several = await serving.open(n=2, max_tokens=4)
    await serving.engine.has_begun(2)
    waiting = await serving.open()
    await is_waiting(serving)
    serving.engine.gate.set()
    for opened in (several, waiting):
        await events_of(opened)
    await serving.completions.drain(grace_s=5)

    assert 0 == serving.outstanding()


async def test_a_first_token_makes_room_for_the_next_prompt(serving):
    """Two prompts fill the window; the third goes though neither of their answers has ended."""
    serving.engine.max_sequences = 3
    serving.engine.gate.clear()
    opened = [await serving.open() for _ in range(3)]
    async with asyncio.timeout(30):
        await serving.engine.has_begun(3)
    serving.engine.gate.set()

    for each in opened:
        await events_of(each)


async def test_a_failure_makes_room(serving, running):
    """Requests that die with their engine keep nobody waiting."""
    waiting = await serving.open()
    await is_waiting(serving)
    serving.engine.failure = EngineCrashedError("it died")
    serving.engine.gate.set()
    for opened in (*running, waiting):
        with pytest.raises(EngineCrashedError):
            await events_of(opened)
    await serving.completions.drain(grace_s=5)

    assert (0, 0) == (num_waiting(serving), serving.outstanding())


async def test_what_waits_when_the_server_ends_is_refused(serving, running):
    """What runs is cut off and charged; what waits is given back and may go elsewhere."""
    waiting = await serving.open()
    await is_waiting(serving)
    drain = asyncio.create_task(serving.completions.drain(grace_s=0))
    with pytest.raises(EngineUnavailableError, match="before the request was dispatched"):
        await events_of(waiting)
    for opened in running:
        with pytest.raises(EngineUnavailableError, match="is charged"):
            await events_of(opened)
    await drain

    assert [("SETTLED", "drained"), ("SETTLED", "drained"), ("VOIDED", "drained")] == (
        await serving.rows("state, outcome")
    )


async def test_a_light_key_goes_before_a_heavy_ones_second_request(serving, running):
    """The key of the request reaches the queue: what waits of one key does not delay another's."""
    heavy = [await serving.open() for _ in range(2)]
    await is_waiting(serving, 2)
    account_id, key_id = await serving.database.write(insert_customer("light"))
    light = await serving.open(
        principal=replace(serving.principal, account_id=account_id, key_id=key_id)
    )
    await is_waiting(serving, 3)
    serving.engine.gate.set()
    for opened in (*running, *heavy, light):
        await events_of(opened)

    assert light.meta.request_id == serving.engine.requests[2].request_id
