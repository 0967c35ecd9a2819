"""Settlements that the ledger has not written yet."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

import structlog

from stillhouse.errors import StoreUnavailableError

log = structlog.get_logger()

T = TypeVar("T")


class PendingSettlements:
    """
    Bounds how long clients, and a process that ends, wait for the ledger's writes.

    The ledger itself retries a write until it succeeds. The number of pending settlements is
    bounded: a request keeps its slot until it is settled.

    Args:
        cost_timeout_s: How long a client waits for its cost; then its response ends without one,
            and the request is settled later.

    """

    def __init__(self, *, cost_timeout_s: float) -> None:
        self._cost_timeout_s = cost_timeout_s
        self._pending: set[asyncio.Task[Any]] = set()
        self._given_up: set[asyncio.Task[Any]] = set()

    async def wait_for(
        self, write: Callable[[], Awaitable[T]], *, on_timeout: Callable[[], None]
    ) -> T:
        """
        Return what *write* returns, however long the ledger cannot be written.

        Args:
            write: Retries until it succeeds, as `Ledger.settle` and `Ledger.void` do.
            on_timeout: Called once if the client has waited for `cost_timeout_s`.

        Raises:
            StoreUnavailableError: The process ends first; the next start's sweep voids the hold.

        """
        task = asyncio.current_task()
        assert task is not None, "an async function runs in a task. This is a bug."
        release_client = partial(self._release_client, on_timeout)
        timer = asyncio.get_running_loop().call_later(self._cost_timeout_s, release_client)
        self._pending.add(task)
        try:
            return await write()
        except asyncio.CancelledError as error:
            if task not in self._given_up:
                raise
            task.uncancel()
            raise StoreUnavailableError(
                "The ledger could not be written before the server ended."
            ) from error
        finally:
            timer.cancel()
            self._pending.discard(task)
            self._given_up.discard(task)

    def give_up(self) -> None:
        """Cancel the writes that still wait; the next start's sweep voids their holds."""
        for task in self._pending - self._given_up:
            self._given_up.add(task)
            task.cancel()

    def _release_client(self, on_timeout: Callable[[], None]) -> None:
        log.error("ledger_is_down", waited_s=self._cost_timeout_s, num_pending=len(self._pending))
        on_timeout()
