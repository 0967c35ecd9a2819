from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from stillhouse.clock import FrozenClock
from stillhouse.errors import OverloadedError
from stillhouse.fairness.semaphore import FairSemaphore

ATTACKER, VICTIM = 1, 2


@pytest.fixture
def clock():
    return FrozenClock()


def make_slots(clock, *, max_running=1, max_waiting=100, max_waiting_per_account=50, **fields):
    return FairSemaphore(
        "compiling schemas",
        max_running=max_running,
        max_waiting=max_waiting,
        max_waiting_per_account=max_waiting_per_account,
        clock=clock,
        **fields,
    )


class Work:
    """Work that runs until it is told to end, in a task of its own."""

    def __init__(self, slots, account_id, key_id=0):
        self.slots, self.account_id, self.key_id = slots, account_id, key_id
        self.has_begun, self.may_end = asyncio.Event(), asyncio.Event()
        self.held_s = None
        self.task = asyncio.create_task(self._run())

    async def _run(self):
        async with self.slots.acquire(self.account_id, self.key_id) as slot:
            self.has_begun.set()
            await self.may_end.wait()
        self.held_s = slot.held_s

    async def end(self):
        self.may_end.set()
        await self.task


async def settle():
    """Let every task come to where it waits."""
    for _ in range(5):
        await asyncio.sleep(0)


async def start(slots, *owners):
    works = [Work(slots, *owner) for owner in owners]
    await settle()
    return works


def running(works):
    return [work for work in works if work.has_begun.is_set() and not work.task.done()]


async def serve_all(works, clock, *, seconds):
    """End what runs, one by one, each after so many seconds of its own; yield whose it was."""
    while now := running(works):
        clock.advance(seconds(now[0]))
        await now[0].end()
        yield now[0]
        await settle()


async def test_no_more_runs_than_there_are_slots(clock):
    """What is too much waits, and goes when one has ended."""
    slots = make_slots(clock, max_running=2)
    works = await start(slots, *[(VICTIM,)] * 3)

    assert (2, 2, 1) == (len(running(works)), slots.num_running, slots.num_waiting)
    await works[0].end()
    await settle()
    assert works[2].has_begun.is_set()
    for work in works[1:]:
        await work.end()
    assert (0, 0, 0) == (slots.num_running, slots.num_waiting, slots.num_remembered)


async def test_who_sent_more_goes_no_more_often(clock):
    """Thirty pieces of one account, from ten keys, do not go before one of another account."""
    slots = make_slots(clock)
    works = await start(slots, *[(ATTACKER, n % 10) for n in range(30)], *[(VICTIM,)] * 5)
    order = [work.account_id async for work in serve_all(works, clock, seconds=lambda _: 1)]

    assert 5 == Counter(order[:11])[VICTIM]


async def test_seconds_are_shared_and_not_pieces(clock):
    """An account whose pieces take ten times as long gets a tenth of the other's."""
    slots = make_slots(clock, credit_s=0)
    works = await start(slots, *[(ATTACKER,)] * 20, *[(VICTIM,)] * 40)
    seconds = {ATTACKER: 10, VICTIM: 1}
    order = [
        work.account_id
        async for work in serve_all(works, clock, seconds=lambda work: seconds[work.account_id])
    ]

    assert Counter(order[:40])[ATTACKER] in range(3, 6)


async def test_an_account_leaves_slots_for_others_where_it_is_told_to(clock):
    """It holds one of two, though nobody else is there; another one finds the second free."""
    slots = make_slots(clock, max_running=2, max_running_per_account=1)
    works = await start(slots, *[(ATTACKER,)] * 5, (VICTIM,))

    assert [ATTACKER, VICTIM] == [work.account_id for work in running(works)]
    async for _ in serve_all(works, clock, seconds=lambda _: 1):
        pass
    assert all(work.task.done() for work in works)


async def test_too_much_of_one_account_is_refused_and_others_wait(clock):
    """The bound is by account first."""
    slots = make_slots(clock, max_waiting_per_account=3)
    works = await start(slots, *[(ATTACKER,)] * 4)

    with pytest.raises(OverloadedError, match="Too many requests wait for compiling schemas"):
        async with slots.acquire(ATTACKER):
            pass
    works += await start(slots, (VICTIM,))
    assert 4 == slots.num_waiting
    async for _ in serve_all(works, clock, seconds=lambda _: 1):
        pass


async def test_too_much_in_all_is_refused(clock):
    """Whoever it is from."""
    slots = make_slots(clock, max_waiting=2)
    works = await start(slots, (1,), (2,), (3,))

    with pytest.raises(OverloadedError):
        async with slots.acquire(4):
            pass
    async for _ in serve_all(works, clock, seconds=lambda _: 1):
        pass
    assert 0 == slots.num_remembered


async def test_who_stops_waiting_holds_nothing(clock):
    """Cancelled before its turn, or in the very moment of it, a piece of work leaves no trace."""
    slots = make_slots(clock)
    first, waits, granted, last = await start(slots, *[(VICTIM,)] * 4)
    waits.task.cancel()
    await settle()
    first.may_end.set()
    while slots.num_waiting == 2:  # noqa: ASYNC110  (until the slot is handed on)
        await asyncio.sleep(0)
    granted.task.cancel()
    await settle()

    assert not granted.has_begun.is_set()
    assert last.has_begun.is_set()
    await last.end()
    assert (0, 0, 0) == (slots.num_running, slots.num_waiting, slots.num_remembered)


async def test_a_slot_granted_to_who_is_just_cancelled_goes_on(clock):
    """The cancel and the grant may fall into one turn of the loop, in this order."""
    slots = make_slots(clock)
    first, cancelled, last = await start(slots, *[(VICTIM,)] * 3)
    cancelled.task.cancel()
    first.may_end.set()
    await settle()
    await settle()

    assert last.has_begun.is_set()
    await last.end()
    assert 0 == slots.num_running


async def test_work_that_fails_gives_its_slot_back(clock):
    """And is charged what it took."""
    slots = make_slots(clock)
    with pytest.raises(ValueError, match="bad"):
        async with slots.acquire(VICTIM):
            raise ValueError("bad")

    assert 0 == slots.num_running


async def test_how_long_a_slot_was_held_is_told(clock):
    """So that the caller can charge it elsewhere, without the wait for the slot."""
    slots = make_slots(clock)
    first, second = await start(slots, (VICTIM,), (VICTIM,))
    clock.advance(3)
    await first.end()
    await settle()
    clock.advance(2)
    await second.end()

    assert (3, 2) == (first.held_s, second.held_s)


async def test_a_reserved_slot_is_for_those_that_had_little(clock):
    """However many accounts had much, one slot stays free of them, and they lose nothing else."""
    slots = make_slots(clock, max_running=2, num_reserved=1, is_heavy=lambda account: account < 10)
    first, second = await start(slots, (1,), (2,))
    assert (True, False) == (first.has_begun.is_set(), second.has_begun.is_set())
    light, other_light = await start(slots, (11,), (12,))
    assert (True, False) == (light.has_begun.is_set(), other_light.has_begun.is_set())
    await light.end()
    await settle()
    assert (False, True) == (second.has_begun.is_set(), other_light.has_begun.is_set())
    await first.end()
    await other_light.end()
    await settle()
    assert second.has_begun.is_set()
    await second.end()
    assert (0, 0) == (slots.num_running, slots.num_waiting)
