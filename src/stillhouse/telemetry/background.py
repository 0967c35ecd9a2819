"""Background loops under one supervisor: logged, restarted with back-off, and seen by monitors."""

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

#: The pause behind a first failure; doubled with every failure in a row.
FIRST_DELAY_S = 1.0
MAX_DELAY_S = 60.0

#: A loop that is overdue by more than this does not turn any more.
_GRACE_S = 5.0

_MAX_REASON_CHARS = 200


@dataclass(frozen=True, slots=True)
class Loop:
    """
    Something that is done again and again.

    Args:
        work: One round.
        interval_s: From the end of a round to the beginning of the next one.
        timeout_s: A round that takes longer is cancelled, and has failed.
        is_vital: Whether a server is not ready while it fails.

    """

    name: str
    work: Callable[[], Awaitable[object]]
    interval_s: float
    timeout_s: float = 60.0
    is_vital: bool = True

    def delay_s(self, num_failures: int) -> float:
        """The pause before the next round, after *num_failures* in a row."""
        if not num_failures:
            return self.interval_s
        # A failed round is never tried more rarely than one that went well.
        doubled_s = math.ldexp(FIRST_DELAY_S, min(num_failures - 1, 16))
        return min(doubled_s, MAX_DELAY_S, self.interval_s)


class BackgroundLoops:
    """
    Runs every loop of a process until it is left; each loop is a task of its own.

    A round that raises is logged and tried again. A loop whose task ends all the same is started
    again. `faults` names the loops that fail or do not turn, for as long as they do.

    Args:
        clock: Says how long ago a round was.

    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._runs: dict[str, _Run] = {}
        self._is_closing = False

    def start(self, loop: Loop) -> None:
        """
        Run *loop* from now on; its first round comes after its interval.

        Raises:
            ValueError: A loop of this name runs.

        """
        if loop.name in self._runs:
            raise ValueError(f"there is a background loop {loop.name!r} already. This is a bug.")
        self._runs[loop.name] = _Run(loop, self._clock)
        self._spawn(self._runs[loop.name])

    def faults(self, *, only_vital: bool = False) -> dict[str, str]:
        """What is wrong with the loops that fail or are overdue, by their names."""
        return {
            name: fault
            for name, run in self._runs.items()
            if (run.loop.is_vital or not only_vital) and (fault := run.fault)
        }

    async def close(self) -> None:
        """End all loops, and wait until they have ended."""
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
    """A loop that runs, and how its last rounds went; only its task and the supervisor write."""

    def __init__(self, loop: Loop, clock: Clock) -> None:
        self.loop = loop
        self.task: asyncio.Task[None] | None = None
        self._clock = clock
        self._num_failures = 0
        self._reason = ""
        self._last_end_s = clock.monotonic_s()

    @property
    def fault(self) -> str | None:
        """What is wrong with it now; None while nothing is."""
        if self._num_failures:
            return f"fails, {self._num_failures} times in a row: {self._reason}"
        silent_s = self._clock.monotonic_s() - self._last_end_s
        if silent_s > self.loop.interval_s + self.loop.timeout_s + _GRACE_S:
            return f"has not gone round for {silent_s:.0f} s"
        return None

    async def go_round(self) -> None:
        while True:
            await asyncio.sleep(self.loop.delay_s(self._num_failures))
            try:
                async with asyncio.timeout(self.loop.timeout_s):
                    await self.loop.work()
            except TimeoutError:
                self.failed(TimeoutError(f"a round took longer than {self.loop.timeout_s:g} s"))
            except Exception as error:  # noqa: BLE001 - whatever it is, the loop goes on
                self.failed(error)
            else:
                self._succeeded()

    def failed(self, error: BaseException) -> None:
        """Write down a round that failed, and the task that ended with it."""
        self._num_failures += 1
        self._last_end_s = self._clock.monotonic_s()
        if isinstance(error, StillhouseError):  # foreseen, so where it was raised says nothing
            self._reason, trace = error.message[:_MAX_REASON_CHARS], None
        else:  # monitors need no key, so they are told no more than that
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
