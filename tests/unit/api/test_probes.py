from __future__ import annotations

import asyncio

import pytest

from stillhouse.api.probes import SharedCheck
from stillhouse.clock import FrozenClock
from stillhouse.errors import StoreUnavailableError


class Store:
    """Counts how often it is written to, and waits until it may answer."""

    def __init__(self) -> None:
        self.num_probes = 0
        self.may_answer = asyncio.Event()
        self.is_down = False

    async def probe(self) -> None:
        self.num_probes += 1
        await self.may_answer.wait()
        if self.is_down:
            raise StoreUnavailableError("down")


async def test_probes_at_once_and_within_a_second_are_one() -> None:
    """However many monitors ask, the ledger is written once a second, and all have the result."""
    store, clock = Store(), FrozenClock()
    check = SharedCheck(store.probe, clock)
    asking = [asyncio.create_task(check()) for _ in range(100)]
    await asyncio.sleep(0)
    store.may_answer.set()
    await asyncio.gather(*asking)
    clock.advance(0.999)
    await check()
    assert 1 == store.num_probes
    clock.advance(0.001)
    store.is_down = True
    for _ in range(2):
        with pytest.raises(StoreUnavailableError, match="down"):
            await check()
    assert 2 == store.num_probes


async def test_a_probe_that_hangs_is_not_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """While one probe waits, later askers wait for it in vain, and no further one is begun."""
    monkeypatch.setattr("stillhouse.api.probes._STORE_TIMEOUT_S", 0)
    store, clock = Store(), FrozenClock()
    check = SharedCheck(store.probe, clock)
    for _ in range(3):
        with pytest.raises(StoreUnavailableError, match="did not answer"):
            await check()
        clock.advance(10)
    assert store.num_probes <= 1
    store.may_answer.set()
