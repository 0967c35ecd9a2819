from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial
from types import SimpleNamespace
from typing import cast

import msgspec
import pytest
import structlog
from starlette.requests import Request

from stillhouse.api.http.drain import Drain
from stillhouse.api.probes import Probes
from stillhouse.app import background_loops
from stillhouse.app.services import Services
from stillhouse.clock import FrozenClock
from stillhouse.errors import StoreUnavailableError
from stillhouse.serving.registry.registry import ModelStatus
from stillhouse.serving.registry.states import ModelState
from stillhouse.telemetry.background import FIRST_DELAY_S, MAX_DELAY_S, BackgroundLoops, Loop
from stillhouse.telemetry.metrics import Metrics


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with structlog.testing.capture_logs():
        yield


class Work:
    """Rounds that end as told: an error is raised, and behind the last one nothing goes wrong."""

    def __init__(self, *ends: BaseException) -> None:
        self._ends = iter(ends)
        self._num_rounds = 0
        self._went_round = asyncio.Condition()
        self.background: BackgroundLoops | None = None
        self.faults_before: list[dict[str, str]] = []

    async def __call__(self) -> None:
        """One round."""
        if self.background is not None:
            self.faults_before.append(self.background.faults())
        async with self._went_round:
            self._num_rounds += 1
            self._went_round.notify_all()
        if (end := next(self._ends, None)) is not None:
            raise end

    async def rounds(self, number: int) -> None:
        """Return when so many rounds have begun."""
        async with asyncio.timeout(10), self._went_round:
            await self._went_round.wait_for(lambda: self._num_rounds >= number)


async def test_a_loop_that_raises_goes_on_and_is_named_meanwhile(monkeypatch):
    """Whatever a round raises is logged and tried again; until one is well, the loop shows."""
    monkeypatch.setattr("stillhouse.telemetry.background.FIRST_DELAY_S", 0)
    work = Work(RuntimeError("secret"), StoreUnavailableError("The ledger is away."))
    with structlog.testing.capture_logs() as logged:
        async with BackgroundLoops(FrozenClock()) as work.background:
            work.background.start(Loop("leases", work, interval_s=0))
            await work.rounds(4)

    assert [
        {},
        {"leases": "fails, 1 times in a row: RuntimeError; the log says more"},
        {"leases": "fails, 2 times in a row: The ledger is away."},
        {},
    ] == work.faults_before[:4]
    events = [(line["event"], line["loop"]) for line in logged]
    assert [
        ("background_loop_failed", "leases"),
        ("background_loop_failed", "leases"),
        ("background_loop_recovered", "leases"),
    ] == events
    assert isinstance(logged[0]["exc_info"], RuntimeError)


@pytest.mark.parametrize("end", [asyncio.CancelledError(), TimeoutError(), KeyError("x")])
async def test_a_loop_whose_task_ends_is_started_again(end, monkeypatch):
    """A cancellation from inside a round ends its task, and the loop still goes on."""
    monkeypatch.setattr("stillhouse.telemetry.background.FIRST_DELAY_S", 0)
    work = Work(end)
    async with BackgroundLoops(FrozenClock()) as background:
        background.start(Loop("leases", work, interval_s=0))
        await work.rounds(2)


async def test_a_loop_that_does_not_turn_is_named():
    """A loop that should have gone round long ago shows, whatever it waits for."""
    clock = FrozenClock()
    async with BackgroundLoops(clock) as background:
        background.start(Loop("leases", Work(), interval_s=10, timeout_s=5))
        clock.advance(20)
        before = background.faults()
        clock.advance(1)
        after = background.faults()

    assert before == {}
    assert after == {"leases": "has been silent for 21 s"}


async def test_a_round_that_hangs_is_cancelled():
    """A round has its time; then it is cancelled, has failed, and the next one comes."""
    was_cancelled = asyncio.Event()

    async def hang() -> None:
        if was_cancelled.is_set():
            faults.append(background.faults())
            next_round.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            was_cancelled.set()
            raise

    faults: list[dict[str, str]] = []
    next_round = asyncio.Event()
    async with BackgroundLoops(FrozenClock()) as background, asyncio.timeout(10):
        background.start(Loop("leases", hang, interval_s=0.001, timeout_s=0.001))
        await next_round.wait()

    assert ["leases"] == list(faults[0])


async def test_closing_ends_every_loop():
    """No task of a loop outlives the supervisor, and none is started again."""
    before = asyncio.all_tasks()
    async with BackgroundLoops(FrozenClock()) as background:
        for name in ("a", "b"):
            background.start(Loop(name, Work(), interval_s=3600))
        with pytest.raises(ValueError, match="already"):
            background.start(Loop("a", Work(), interval_s=1))

    assert before == asyncio.all_tasks()


def test_failures_are_tried_again_soon_and_then_ever_later():
    """The pause doubles with each failure in a row, up to a minute and to the loop's own."""
    hourly = Loop("purge", Work(), interval_s=3600)
    assert [3600, FIRST_DELAY_S, 2 * FIRST_DELAY_S, 4 * FIRST_DELAY_S] == [
        hourly.delay_s(num) for num in range(4)
    ]
    assert MAX_DELAY_S == hourly.delay_s(1_000_000)
    assert 10 == Loop("leases", Work(), interval_s=10).delay_s(9)


class OneModel:
    """A registry with a model that serves."""

    statuses = (ModelStatus("a/b", ModelState.SERVING),)

    def __iter__(self):
        replicas = SimpleNamespace(check_health=partial(asyncio.sleep, 0))
        yield SimpleNamespace(spec=SimpleNamespace(id="a/b"), replicas=replicas)


@pytest.mark.parametrize(("is_vital", "status"), [(True, 503), (False, 200)])
async def test_a_failing_loop_shows_in_readyz(is_vital, status, monkeypatch):
    """Monitors are told which loop fails; the server is not ready where requests need it."""
    monkeypatch.setattr("stillhouse.telemetry.background.FIRST_DELAY_S", 0)
    work, stuck = Work(RuntimeError("secret")), asyncio.Event()

    async def fail_then_wait() -> None:
        await work()
        await stuck.wait()

    async with BackgroundLoops(FrozenClock()) as background:
        probes = Probes(OneModel(), Metrics(), partial(asyncio.sleep, 0), Drain(), background)
        background.start(Loop("leases", fail_then_wait, interval_s=0, is_vital=is_vital))
        await work.rounds(2)  # the first has failed, and the second never ends
        ready = await probes.readyz(Request({"type": "http"}))

    assert status == ready.status_code
    assert msgspec.json.decode(ready.body) == {
        "a/b": "ok",
        "store": "ok",
        "background leases": "fails, 1 times in a row: RuntimeError; the log says more",
    }


async def test_leases_are_kept_behind_an_error_that_nobody_foresaw(monkeypatch):
    """One exception in the loop that renews leases is not the end of renewing them."""
    monkeypatch.setattr("stillhouse.telemetry.background.FIRST_DELAY_S", 0)
    monkeypatch.setattr(background_loops, "INTERVAL_MS", 0)
    work, nothing = Work(RuntimeError("a bug")), partial(asyncio.sleep, 0)
    services = SimpleNamespace(
        database=SimpleNamespace(is_shared=True),
        clock=SimpleNamespace(synchronise=nothing),
        ledger=SimpleNamespace(leases=SimpleNamespace(keep=work)),
    )
    with structlog.testing.capture_logs() as logged:
        async with BackgroundLoops(FrozenClock()) as background:
            await background_loops.start_leases(cast("Services", services), background)
            await work.rounds(2)

    assert [("background_loop_failed", "leases")] == [
        (line["event"], line["loop"]) for line in logged if line["log_level"] == "error"
    ]
