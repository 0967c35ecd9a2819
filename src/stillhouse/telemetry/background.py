"""Supervises background loops: logs and restarts them, and reports their faults to monitors."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Self

import structlog

from stillhouse.clock import Clock
from stillhouse.errors import StillhouseError

log = structlog.get_logger()

#: The pause after the first failure; every further one in a row doubles it.
FIRST_DELAY_S = 1.0
MAX_DELAY_S = 60.0

#: A loop that is overdue by more than this counts as stopped.
_GRACE_S = 5.0

_MAX_REASON_CHARS = 200


@dataclass(frozen=True, slots=True)
class Loop:
    """
    Describes work that repeats.

    Args:
        work: One round.
        interval_s: Time from the end of a round to the beginning of the next one.
        timeout_s: A longer round is cancelled, and counts as failed.
        is_vital: Whether the server is not ready while the loop fails.

    """

    name: str
    work: Callable[[], Awaitable[object]]
    interval_s: float
    timeout_s: float = 60.0
    is_vital: bool = True

    def delay_s(self, num_failures: int) -> float:
        """Returns the pause before the next round, after *num_failures* in a row."""
        if not num_failures:
            return self.interval_s
        # A failed round repeats at least as often as a successful one.
        doubled_s = math.ldexp(FIRST_DELAY_S, min(num_failures - 1, 16))
        return min(doubled_s, MAX_DELAY_S, self.interval_s)


class BackgroundLoops:
    """
    Runs the loops of a process, each in its own task, until the context ends.

    A round that raises is logged and repeated. A loop whose task ends is restarted. `faults` names
    the loops that fail or have stopped.

    Args:
        clock: Measures the time since the last round.

    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._runs: dict[str, _Run] = {}
        self._is_closing = False

    def start(self, loop: Loop) -> None:
        """
        Runs *loop* from now on; its first round begins after its interval.

        Raises:
            ValueError: A loop of this name runs.

        """
        if loop.name in self._runs:
            raise ValueError(f"there is a background loop {loop.name!r} already. This is a bug.")
        self._runs[loop.name] = _Run(loop, self._clock)
        self._spawn(self._runs[loop.name])

    def faults(self, *, only_vital: bool = False) -> dict[str, str]:
        """Returns the faults of loops that fail or are overdue, by name."""
        return {
            name: fault
            for name, run in self._runs.items()
            if (run.loop.is_vital or not only_vital) and (fault := run.fault)
        }

    async def close(self) -> None:
        """Stops all loops, and waits for their end."""
        self._is_closing = True
        tasks = [run.task for run in self._runs.values() if run.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()

    def _spawn(self, run: _Run) -> None:
        def ended(task: asyncio.Task[None]) -> None:
            if self._is_closing:
                return
            error = None if task.cancelled() else task.exception()
            run.failed(error or asyncio.CancelledError("its task was cancelled"))
            self._spawn(run)

        run.task = asyncio.create_task(run.go_round(), name=f"background {run.loop.name}")
        run.task.add_done_callback(ended)


class _Run:
    """Keeps a running loop with the results of its last rounds."""

    def __init__(self, loop: Loop, clock: Clock) -> None:
        self.loop = loop
        self.task: asyncio.Task[None] | None = None
        self._clock = clock
        self._num_failures = 0
        self._reason = ""
        self._last_end_s = clock.monotonic_s()

    @property
    def fault(self) -> str | None:
        """Its present fault, or None."""
        if self._num_failures:
            return f"fails, {self._num_failures} times in a row: {self._reason}"
        silent_s = self._clock.monotonic_s() - self._last_end_s
        if silent_s > self.loop.interval_s + self.loop.timeout_s + _GRACE_S:
            return f"has been silent for {silent_s:.0f} s"
        return None

    async def go_round(self) -> None:
        while True:
            await asyncio.sleep(self.loop.delay_s(self._num_failures))
            try:
                async with asyncio.timeout(self.loop.timeout_s):
                    await self.loop.work()
            except TimeoutError:
                self.failed(TimeoutError(f"a round took longer than {self.loop.timeout_s:g} s"))
            except Exception as error:  # noqa: BLE001 - the loop survives any fault
                self.failed(error)
            else:
                self._succeeded()

    def failed(self, error: BaseException) -> None:
        """Records a failed round, or the end of the task."""
        self._num_failures += 1
        self._last_end_s = self._clock.monotonic_s()
        if isinstance(error, StillhouseError):  # foreseen, so a trace adds nothing
            self._reason, trace = error.message[:_MAX_REASON_CHARS], None
        else:  # monitors need no key, so they see the type alone
            self._reason, trace = f"{type(error).__name__}; the log says more", error
        log.error(
            "background_loop_failed",
            loop=self.loop.name,
            reason=self._reason,
            num_failures=self._num_failures,
            retry_in_s=self.loop.delay_s(self._num_failures),
            exc_info=trace,
        )

    def _succeeded(self) -> None:
        if self._num_failures:
            log.info(
                "background_loop_recovered", loop=self.loop.name, num_failures=self._num_failures
            )
        self._num_failures = 0
        self._last_end_s = self._clock.monotonic_s()
