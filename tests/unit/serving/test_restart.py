"""The engine, which works on two sequences at once, crashes while others wait, and comes back."""

from __future__ import annotations

import asyncio

import pytest

from stillhouse.billing.outcome import Outcome
from stillhouse.catalogue.demo_models import DEMO_MODEL
from stillhouse.errors import (
    EngineCrashedError,
    EngineUnavailableError,
    OverloadedError,
    QuarantinedRequestError,
)
from stillhouse.serving.queue.config import QueueConfig
from stillhouse.types.sampling import SamplingOverrides
from tests.unit.serving.conftest import events_of

impatient = pytest.mark.parametrize("max_wait_s", [0])


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
        max_outstanding=64,
        max_wait_s=max_wait_s,
        flex_max_wait_s=max_wait_s,
        prompt_window_tokens=4096,
    )


def num_waiting(serving):
    labels = {"model": DEMO_MODEL, "tier": "default"}
    return serving.metrics.registry.get_sample_value("stillhouse_waiting_requests", labels)


async def is_waiting(serving, num_requests):
    """Return when so many requests wait."""
    async with asyncio.timeout(30):
        while num_waiting(serving) != num_requests:  # noqa: ASYNC110  (the gauge is the fact)
            await asyncio.sleep(0)


async def start(serving, number, *, first_seed=0, **fields):
    """So many requests, each its own by its seed, that are at the engine."""
    serving.engine.gate.clear()
    opened = [await serving.open(sampling=seeded(first_seed + n), **fields) for n in range(number)]
    await serving.engine.has_begun(number)
    return opened


def seeded(seed):
    return SamplingOverrides(seed=seed)


async def outcome_of(completion):
    """How many tokens came, or the error's name."""
    try:
        return (await events_of(completion))[-1].usage.completion_tokens
    except (EngineCrashedError, EngineUnavailableError, OverloadedError) as error:
        return type(error).__name__


async def test_what_waits_is_served_after_the_restart(serving):
    """What ran has failed, unpaid; of what waited nothing has, nor what came meanwhile."""
    running = await start(serving, 2)
    await asyncio.gather(*(anext(opened.batches()) for opened in running))
    waiting = [await serving.open() for _ in range(20)]
    await is_waiting(serving, 20)
    serving.engine.crash()
    assert ["EngineCrashedError"] * 2 == [await outcome_of(each) for each in running]
    waiting.append(await serving.open())
    await is_waiting(serving, 21)
    asked_meanwhile = len(serving.engine.requests)
    serving.engine.restart()

    assert [3] * 21 == [await outcome_of(each) for each in waiting]
    assert 2 == asked_meanwhile
    assert [("VOIDED", "engine_error", 1)] * 2 + [("SETTLED", "length", 3)] * 21 == (
        await serving.rows()
    )


async def test_a_request_of_which_nothing_was_made_goes_back_to_the_front(serving):
    """It was dispatched in the moment of the crash: it is run again before what waited."""
    serving.engine.is_slow_to_begin = True
    running = await start(serving, 2)
    waiting = [await serving.open() for _ in range(3)]
    await is_waiting(serving, 3)
    serving.engine.crash()
    await is_waiting(serving, 5)
    serving.engine.restart()

    assert [3] * 5 == [await outcome_of(each) for each in (*running, *waiting)]
    order = [request.request_id for request in serving.engine.requests]
    assert set(order[:2]) == set(order[2:4])
    assert [("SETTLED", "length", 3)] * 5 == await serving.rows()


async def test_it_goes_back_once(serving):
    """A second crash before its first token fails it: it may be the cause."""
    serving.engine.is_slow_to_begin = True
    (running,) = await start(serving, 1)
    serving.engine.crash()
    await is_waiting(serving, 1)
    serving.engine.gate.clear()
    serving.engine.restart()
    await serving.engine.has_begun()
    serving.engine.crash()

    assert "EngineCrashedError" == await outcome_of(running)
    assert [("VOIDED", "engine_error", 0)] == await serving.rows()
    assert 0 == num_waiting(serving)


async def test_several_answers_go_back_if_none_has_begun(serving):
    """One answer with a token is one that runs."""
    serving.engine.is_slow_to_begin = True
    (running,) = await start(serving, 1, n=2)
    await serving.engine.has_begun()
    serving.engine.crash()
    await is_waiting(serving, 1)
    serving.engine.restart()

    assert 6 == await outcome_of(running)


async def test_a_client_that_leaves_during_the_restart_pays_nothing(serving):
    """Though its request has been at the engine before."""
    serving.engine.is_slow_to_begin = True
    (running,) = await start(serving, 1)
    serving.engine.crash()
    await is_waiting(serving, 1)
    running.stop(Outcome.CLIENT_DISCONNECT)

    assert "EngineUnavailableError" == await outcome_of(running)
    assert [("VOIDED", "client_disconnect", 0)] == await serving.rows()
    assert 0 == num_waiting(serving)


@impatient
async def test_an_engine_that_does_not_come_back_in_time(serving):
    """It is 503 and when to come back, after the wait and not before; nothing is charged."""
    serving.engine.crash()
    late = await serving.open()
    with pytest.raises(EngineUnavailableError, match="restarting") as refusal:
        await events_of(late)

    assert refusal.value.retry_after_s >= 1
    assert [("VOIDED", "engine_error", 0)] == await serving.rows()


async def test_fail_fast_does_not_wait_for_a_restart(serving):
    """It is refused before anything is held; after the restart it is served."""
    serving.engine.crash()
    with pytest.raises(EngineUnavailableError, match="restarting"):
        await serving.open(fail_fast=True)
    rows = await serving.rows()
    serving.engine.restart()
    serving.engine.gate.set()

    assert [] == rows
    assert 3 == await outcome_of(await serving.open(fail_fast=True))


# Requests that crash their engine.


async def crash_with(serving, *seeds):
    """Requests of these seeds run side by side when the engine crashes, each with a token."""
    opened = []
    for seed in seeds:
        opened += await start(serving, 1, first_seed=seed)
    for each in opened:
        await anext(each.batches())
    serving.engine.crash()
    outcomes = [await outcome_of(each) for each in opened]
    serving.engine.restart()
    return outcomes


async def test_a_request_of_two_crashes_is_refused_for_a_while(serving):
    """Before its hold; with another parameter it is another request."""
    for _ in range(2):
        assert ["EngineCrashedError"] == await crash_with(serving, 1)
    with pytest.raises(QuarantinedRequestError, match=r"crashed 2 times .* for another 600 s"):
        await serving.open(sampling=seeded(1))

    assert 2 == len(await serving.rows())
    assert 3 == await outcome_of(await serving.open(sampling=seeded(2)))
    serving.clock.advance(600)
    assert 3 == await outcome_of(await serving.open(sampling=seeded(1)))


async def test_an_answer_absolves(serving):
    """Two crashes with an answer between them are a coincidence."""
    await crash_with(serving, 1)
    await outcome_of(await serving.open(sampling=seeded(1)))
    await crash_with(serving, 1)

    assert 3 == await outcome_of(await serving.open(sampling=seeded(1)))


async def test_what_only_waited_is_no_suspect(serving):
    """A crash that a request has waited through is not counted with one in which it ran."""
    running = await start(serving, 2, first_seed=10)
    waiting = await serving.open(sampling=seeded(1))
    await is_waiting(serving, 1)
    for each in running:
        await anext(each.batches())
    serving.engine.crash()
    for each in running:
        await outcome_of(each)
    serving.engine.gate.clear()
    serving.engine.restart()
    await anext(waiting.batches())
    serving.engine.crash()
    await outcome_of(waiting)
    serving.engine.restart()

    assert 3 == await outcome_of(await serving.open(sampling=seeded(1)))


async def test_of_several_suspects_each_runs_without_the_others(serving):
    """Both ran in the same two crashes: neither is refused, and the next crash has one of them."""
    for _ in range(2):
        await crash_with(serving, 1, 2)
    serving.engine.gate.clear()
    culprit, innocent = [await serving.open(sampling=seeded(seed)) for seed in (1, 2)]
    other = await serving.open(sampling=seeded(3))
    await serving.engine.has_begun(2)
    await anext(culprit.batches())
    at_engine = {request.sampling.seed for request in serving.engine.requests[-2:]}
    serving.engine.crash()
    outcomes = [await outcome_of(each) for each in (culprit, other)]
    serving.engine.restart()

    assert {1, 3} == at_engine
    assert "EngineCrashedError" == outcomes[0]
    assert 3 == await outcome_of(innocent)
    with pytest.raises(QuarantinedRequestError):
        await serving.open(sampling=seeded(1))
    assert 3 == await outcome_of(await serving.open(sampling=seeded(2)))
