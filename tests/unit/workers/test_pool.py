"""Which worker serves a request, and when one is replaced."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from itertools import count

import pytest

from stillhouse.errors import EngineUnavailableError
from stillhouse.workers.pool import WorkerPool

pytestmark = pytest.mark.asyncio


@dataclass(eq=False)
class Worker:
    pid: int
    colour: str = "red"
    is_alive: bool = True
    was_killed: bool = False
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def kill(self) -> None:
        self.was_killed = True
        self.ended.set()

    async def wait(self) -> int:
        await self.ended.wait()
        return -9


class Spawner:
    def __init__(self) -> None:
        self.workers: list[Worker] = []
        self._pids = count(1)

    async def red(self) -> Worker:
        return self._spawn("red")

    async def blue(self) -> Worker:
        return self._spawn("blue")

    def _spawn(self, colour: str) -> Worker:
        self.workers.append(Worker(next(self._pids), colour))
        return self.workers[-1]


def make_pool(max_workers: int = 2) -> WorkerPool[Worker]:
    return WorkerPool(max_workers=max_workers, closed="It is closed.")


async def test_a_worker_serves_one_request_after_the_other():
    """A worker that is given back is lent again; two requests at once have two."""
    pool, spawner = make_pool(), Spawner()
    async with pool.lend(spawner.red) as first:
        async with pool.lend(spawner.red) as second:
            assert first is not second
        async with pool.lend(spawner.red) as again:
            assert second is again
    assert frozenset({1, 2}) == pool.pids


async def test_a_request_that_fails_or_is_cancelled_ends_its_worker():
    """Nobody knows what such a worker still does, so the next request has another one."""
    pool, spawner = make_pool(), Spawner()
    with pytest.raises(ZeroDivisionError):
        async with pool.lend(spawner.red):
            raise ZeroDivisionError
    with pytest.raises(asyncio.CancelledError):
        async with pool.lend(spawner.red):
            raise asyncio.CancelledError
    assert [True, True] == [worker.was_killed for worker in spawner.workers]
    assert frozenset() == pool.pids


async def test_a_worker_that_was_ended_or_has_died_is_not_lent_again():
    """Neither one that its request has ended, nor one that died while it was idle."""
    pool, spawner = make_pool(), Spawner()
    async with pool.lend(spawner.red) as ended:
        pool.end(ended)
    async with pool.lend(spawner.red) as died:
        assert ended is not died
    died.is_alive = False
    async with pool.lend(spawner.red) as third:
        assert third is not died
    assert died.was_killed
    assert frozenset({3}) == pool.pids


async def test_an_idle_worker_that_does_not_fit_makes_room():
    """With as many workers as there may be, an idle one of the wrong kind is ended."""
    pool, spawner = make_pool(max_workers=1), Spawner()
    async with pool.lend(spawner.red):
        pass
    async with pool.lend(spawner.blue, fits=lambda worker: worker.colour == "blue") as blue:
        assert "blue" == blue.colour
    assert [True, False] == [worker.was_killed for worker in spawner.workers]


async def test_a_closed_pool_ends_all_and_lends_nothing():
    """Idle workers, those that are lent and one that was just starting are all ended."""
    pool, spawner = make_pool(), Spawner()

    async def closing() -> Worker:
        worker: Worker = await spawner.red()
        await pool.close()
        return worker

    async with pool.lend(spawner.red):
        with pytest.raises(EngineUnavailableError, match="It is closed"):
            async with pool.lend(closing):
                raise AssertionError("it was lent")
    with pytest.raises(EngineUnavailableError, match="It is closed"):
        async with pool.lend(spawner.red):
            raise AssertionError("it was lent")
    assert [True, True] == [worker.was_killed for worker in spawner.workers]
    assert frozenset() == pool.pids
