from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from stillhouse.api.bodies.admission import SMALL_BYTES, BodyAdmission, BodyRules
from stillhouse.clock import FrozenClock
from stillhouse.errors import RateLimitError
from stillhouse.settings import MIB

RULES = BodyRules(
    max_bytes=2 * MIB,
    max_bytes_in_flight=4 * MIB,
    max_bytes_in_flight_per_account=2 * MIB,
    bytes_per_minute=60 * MIB,
    burst_bytes=4 * MIB,
    max_waiting=0,
)


def admission(clock=None, **rules):
    return BodyAdmission(replace(RULES, **rules), clock or FrozenClock())


@asynccontextmanager
async def held(admitted, account_id, num_bytes, *, is_declared=True):
    """A whole body, which is in flight while the context is entered."""
    declared_bytes = num_bytes if is_declared else None
    with admitted.intake(account_id, declared_bytes=declared_bytes) as intake:
        await intake.begin()
        for so_far in range(SMALL_BYTES, num_bytes, SMALL_BYTES):
            await intake.on_received(so_far)
        await intake.on_received(num_bytes)
        yield


async def bring(admitted, account_id, num_bytes, *, is_declared=True):
    async with held(admitted, account_id, num_bytes, is_declared=is_declared):
        pass


@pytest.mark.parametrize("is_declared", [True, False])
async def test_an_account_holds_no_more_than_its_share(is_declared):
    """A body that finds no room is refused before it is read, whether or not it says its length."""
    admitted = admission()
    async with held(admitted, 1, 2 * MIB, is_declared=is_declared):
        with pytest.raises(RateLimitError, match="wait for its body to be read"):
            await bring(admitted, 1, 2 * MIB, is_declared=is_declared)
        await bring(admitted, 2, 2 * MIB)
    await bring(admitted, 1, 2 * MIB)


async def test_all_accounts_hold_no_more_than_there_is():
    """The whole is bounded, however many they are."""
    admitted = admission()
    async with held(admitted, 1, 2 * MIB), held(admitted, 2, 2 * MIB):
        with pytest.raises(RateLimitError, match="wait for its body to be read"):
            await bring(admitted, 3, SMALL_BYTES + 1)


async def test_small_bodies_always_come_in():
    """However much the account holds, and whether or not they say their length."""
    admitted = admission()
    async with held(admitted, 1, 2 * MIB):
        await bring(admitted, 1, SMALL_BYTES)
        await bring(admitted, 1, SMALL_BYTES, is_declared=False)


async def test_what_is_packed_counts_as_all_that_it_may_become():
    """A small body that grows takes the share of the largest, and as much of the rate."""
    admitted = admission(max_wait_s=0)
    with admitted.intake(1, declared_bytes=None) as intake:
        await intake.on_received(10)
        await intake.reserve_for_unpacking()
        with pytest.raises(RateLimitError, match="wait for its body to be read"):
            await bring(admitted, 1, SMALL_BYTES + 1)
    await bring(admitted, 1, 2 * MIB)
    with pytest.raises(RateLimitError, match="60 MiB of request bodies per minute"):
        await bring(admitted, 1, SMALL_BYTES + 1)


async def test_small_bodies_use_up_a_minute():
    """Whatever became of them; then none of the account comes in, and all of others."""
    clock = FrozenClock()
    admitted = admission(clock, bytes_per_minute=10_000)
    for _ in range(10):
        await bring(admitted, 1, 1000)
    with pytest.raises(RateLimitError, match="MiB of request bodies per minute") as refusal:
        await bring(admitted, 1, 1)
    assert 0 < refusal.value.retry_after_s < 60

    await bring(admitted, 2, 1)
    clock.advance(refusal.value.retry_after_s + 0.001)
    await bring(admitted, 1, 1)


async def test_large_bodies_beyond_a_burst_come_at_the_rate():
    """They wait unread; where that would take too long they are refused, and take nothing."""
    clock = FrozenClock()
    admitted = admission(clock, max_wait_s=1.5)
    for _ in range(2):  # the burst
        await bring(admitted, 1, 2 * MIB)
    with pytest.raises(RateLimitError, match="60 MiB of request bodies per minute") as refusal:
        await bring(admitted, 1, 2 * MIB)
    assert 2 == refusal.value.retry_after_s

    waiting = asyncio.create_task(bring(admitted, 1, MIB))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    await bring(admitted, 1, SMALL_BYTES)
    await bring(admitted, 2, 2 * MIB)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    clock.advance(2)
    await bring(admitted, 1, 2 * MIB)


async def test_what_is_not_read_is_not_counted():
    """A body that does not say its length reserves all it may have, and pays what it has."""
    admitted = admission(max_wait_s=0)
    for _ in range(15):
        await bring(admitted, 1, 2 * SMALL_BYTES, is_declared=False)


async def test_accounts_at_rest_are_forgotten():
    """What is remembered is bounded by who came in within the last minute."""
    clock = FrozenClock()
    admitted = admission(clock)
    for account_id in range(100):
        await bring(admitted, account_id, 2 * MIB)
        await bring(admitted, account_id, 10)
        clock.advance(61)

    assert len(admitted._rates) <= 3
