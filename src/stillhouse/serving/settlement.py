"""Sees holds through to their end, also when the ledger cannot be written for a while."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import structlog

from stillhouse.errors import StoreUnavailableError

log = structlog.get_logger()

T = TypeVar("T")

#: Between two series of the ledger's own attempts.
_PAUSE_S = 1.0


class SettlementRetrier:
    """
    Settles or voids: at once if the ledger can be written, otherwise as soon as it can.

    What waits is bounded: a request keeps its place until its hold is resolved.

    Args:
        patience_s: A client is kept waiting for its cost for so long; then it is let go without
            it, and the hold is resolved behind its back.

    """

    def __init__(self, *, patience_s: float) -> None:
        self._patience_s = patience_s
        self._waiting: set[asyncio.Task[Any]] = set()
        self._given_up: set[asyncio.Task[Any]] = set()

    async def resolve(
        self, attempt: Callable[[], Awaitable[T]], *, on_delay: Callable[[], None]
    ) -> T:
        """
        Repeat *attempt* until the ledger can be written.

        Args:
            attempt: Harmless when repeated, as settling and voiding are.
            on_delay: Called by the event loop when the client's patience is at its end.

        Raises:
            StoreUnavailableError: The process ends first; the next start's sweep voids the hold.

        """
        task = asyncio.current_task()
        assert task is not None, "an async function runs in a task. This is a bug."
        delay = asyncio.get_running_loop().call_later(self._patience_s, on_delay)
        self._waiting.add(task)
        try:
            return await _repeat(attempt)
        except asyncio.CancelledError as error:
            if task not in self._given_up:
                raise
            task.uncancel()
            raise StoreUnavailableError(
                "The ledger could not be written before the server ended."
            ) from error
        finally:
            delay.cancel()
            self._waiting.discard(task)
            self._given_up.discard(task)

    def give_up(self) -> None:
        """Leave what is not resolved yet to the next start's sweep."""
        for task in self._waiting - self._given_up:
            self._given_up.add(task)
            task.cancel()


async def _repeat(attempt: Callable[[], Awaitable[T]]) -> T:
    while True:
        try:
            return await attempt()
        except StoreUnavailableError as error:
            log.error("ledger_is_down", reason=error.message)  # noqa: TRY400  (an alarm)
        await asyncio.sleep(_PAUSE_S)
