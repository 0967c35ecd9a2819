"""Two engines behind one model: whatever reads its capacity reads both, each time anew."""

from __future__ import annotations

import asyncio

import pytest

from stillhouse.engines.base import EngineHealth
from stillhouse.errors import EngineUnavailableError
from stillhouse.serving.queue.config import QueueConfig
from stillhouse.serving.registry.replicas import ReplicaSet
from tests.unit.serving.conftest import SteppedEngine, events_of, replicas_of


class SilentEngine(SteppedEngine):
    """An engine whose loop does not answer."""

    async def health(self) -> EngineHealth:
        raise EngineUnavailableError("no answer")


@pytest.fixture
def place(tmp_path):
    """Which database it is makes no difference here."""
    return tmp_path / "ledger.db"


@pytest.fixture
def queue_rules():
    return QueueConfig(
        max_outstanding=64, max_wait_s=600, flex_max_wait_s=600, prompt_window_tokens=4096
    )


@pytest.fixture
def second(serving):
    """A second engine of the model, with slots of its own."""
    engine = SteppedEngine()
    serving.model.replicas.add(engine)
    for each in (serving.engine, engine):
        each.gate.clear()
    return engine


def ran_on(engine):
    return {request.request_id.partition("/")[0] for request in engine.requests}


async def finish(second, serving, *opened):
    for engine in (serving.engine, second):
        engine.gate.set()
    return [(await events_of(each))[-1].usage.completion_tokens for each in opened]


async def test_requests_go_where_most_slots_are_free(serving, second):
    """Four run at once on two engines of two slots, two on each; the fifth waits."""
    opened = [await serving.open() for _ in range(5)]
    await serving.engine.has_begun(2)
    await second.has_begun(2)
    at_engines = (len(serving.engine.requests), len(second.requests))

    assert (2, 2) == at_engines
    assert [3] * 5 == await finish(second, serving, *opened)


async def test_all_answers_of_a_request_run_on_one_replica(serving, second):
    """Two answers wait until one engine has two free slots, though each has one before."""
    first, other = await serving.open(), await serving.open()
    await serving.engine.has_begun()
    await second.has_begun()
    several = await serving.open(n=2)
    await asyncio.sleep(0)
    before = (len(serving.engine.requests), len(second.requests))
    second.gate.set()
    await events_of(other)
    await second.has_begun(2)

    assert (1, 1) == before
    assert several.meta.request_id in ran_on(second)
    assert several.meta.request_id not in ran_on(serving.engine)
    assert [3, 6] == await finish(second, serving, first, several)


async def test_a_crash_of_one_replica_leaves_the_other_its_requests(serving, second):
    """What had no token yet goes on at the other one, before the crashed one is back."""
    serving.engine.is_slow_to_begin = True
    first, other = await serving.open(), await serving.open()
    await serving.engine.has_begun()
    await second.has_begun()
    serving.engine.crash()
    await second.has_begun()

    assert ran_on(second) == {first.meta.request_id, other.meta.request_id}
    assert [3, 3] == await finish(second, serving, first, other)


async def test_a_replica_that_comes_later_takes_what_waits(serving):
    """Capacity is read at each dispatch."""
    serving.engine.gate.clear()
    opened = [await serving.open() for _ in range(4)]
    await serving.engine.has_begun(2)
    late = SteppedEngine()
    serving.model.replicas.add(late)
    await late.has_begun(2)

    assert [3] * 4 == await finish(late, serving, *opened)


async def test_an_engine_that_grows_takes_more(serving):
    """The slots of an engine are read at each dispatch, as is its context."""
    serving.engine.gate.clear()
    opened = [await serving.open() for _ in range(3)]
    await serving.engine.has_begun(2)
    serving.engine.max_sequences = 4
    opened.append(await serving.open())
    await serving.engine.has_begun(2)
    serving.engine.context_length = 64
    serving.engine.gate.set()

    assert 64 == serving.model.context_length
    assert [3] * 4 == [(await events_of(each))[-1].usage.completion_tokens for each in opened]


async def test_capacity_is_that_of_the_replicas_that_serve():
    """Slots add up; a sequence must fit on any replica."""
    small, large = SteppedEngine(), SteppedEngine()
    small.context_length, large.max_sequences = 1024, 8
    replicas = replicas_of(small, large)
    before = (replicas.max_sequences, replicas.num_serving, replicas.context_length)
    large.crash()

    assert (10, 2, 1024) == before
    assert (2, 1, 1024) == (
        replicas.max_sequences,
        replicas.num_serving,
        replicas.context_length,
    )


async def test_one_replica_that_answers_is_healthy_enough():
    """A model is ill where none of its engines answers."""
    await replicas_of(SilentEngine(), SteppedEngine()).check_health()
    with pytest.raises(EngineUnavailableError, match="no answer"):
        await replicas_of(SilentEngine()).check_health()
    with pytest.raises(EngineUnavailableError, match="no engine"):
        await ReplicaSet().check_health()
