"""Settles or voids the hold of each request, and retries until the ledger can be written."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

import structlog

from stillhouse.billing.idempotency import Answer
from stillhouse.billing.ledger import Hold, Ledger
from stillhouse.billing.outcome import Outcome, UsageSource
from stillhouse.errors import StillhouseError, StoreUnavailableError
from stillhouse.serving.request_metrics import RequestMetrics
from stillhouse.types.usage import TokenUsage

log = structlog.get_logger()

T = TypeVar("T")


class PendingSettlements:
    """
    Bounds how long clients, and a shutdown, wait for the ledger's writes.

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
        Awaits *write*; releases the client after `cost_timeout_s`, and goes on waiting.

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
        """Cancels the writes that still wait; the next start's sweep voids their holds."""
        for task in self._pending - self._given_up:
            self._given_up.add(task)
            task.cancel()

    def _release_client(self, on_timeout: Callable[[], None]) -> None:
        log.error("ledger_is_down", waited_s=self._cost_timeout_s, num_pending=len(self._pending))
        on_timeout()


class Settlement:
    """
    Settles or voids one request's hold, once, and records its cost in the metrics.

    Args:
        pending: The settlements of all requests of the process.

    """

    def __init__(
        self, ledger: Ledger, hold: Hold, *, pending: PendingSettlements, metrics: RequestMetrics
    ) -> None:
        self.request_id = hold.request_id
        self.key_id = hold.held.key_id
        self._ledger = ledger
        self._hold = hold
        self._pending = pending
        self._metrics = metrics

    def cost_picousd(self, usage: TokenUsage) -> int:
        """Returns what *usage* costs at the price of the hold."""
        return self._hold.price.cost_picousd(usage)

    def notify_if_lost(self, on_lost: Callable[[StillhouseError], None]) -> None:
        """Calls *on_lost* with the reason if another gateway voids the hold for good."""
        self._ledger.leases.notify_if_lost(self._hold.held.number, on_lost)

    async def settle(
        self,
        usage: TokenUsage,
        outcome: Outcome,
        *,
        usage_source: UsageSource,
        answer: Answer | None,
        on_timeout: Callable[[], None],
    ) -> int:
        """
        Charges *usage*, and returns its cost once the ledger has written it.

        Args:
            answer: Stored for repetitions under the request's idempotency key.
            on_timeout: Called once if that takes longer than the client waits.

        Raises:
            StoreUnavailableError: The process ends first; the next start's sweep voids the hold.

        """
        settle = partial(
            self._ledger.settle,
            self._hold,
            usage=usage,
            outcome=outcome,
            usage_source=usage_source,
            answer=answer,
        )
        cost_picousd = await self._pending.wait_for(settle, on_timeout=on_timeout)
        self._metrics.record_end(outcome, usage, cost_picousd)
        log.info(
            "completion",
            request_id=self.request_id,
            model=self._metrics.model_id,
            outcome=outcome.value,
            prompt_tokens=usage.prompt_tokens,
            cached_tokens=usage.cached_tokens,
            completion_tokens=usage.completion_tokens,
            cost_picousd=cost_picousd,
        )
        return cost_picousd

    async def void(
        self,
        usage: TokenUsage,
        outcome: Outcome,
        *,
        usage_source: UsageSource,
        on_timeout: Callable[[], None],
    ) -> None:
        """
        Releases the hold without a charge, and returns once the ledger has written that.

        Args:
            usage: What was generated all the same, for the record.
            on_timeout: Called once if that takes longer than the client waits.

        Raises:
            StoreUnavailableError: The process ends first; the next start's sweep voids the hold.

        """
        void = partial(
            self._ledger.void, self._hold, outcome=outcome, usage=usage, usage_source=usage_source
        )
        await self._pending.wait_for(void, on_timeout=on_timeout)
        self._metrics.record_end(outcome, usage, 0)
