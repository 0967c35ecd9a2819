"""Queues a model's requests, and dispatches each to an engine when the scheduler picks it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from enum import Enum, StrEnum, auto

from stillhouse.clock import Clock
from stillhouse.engines.base import TokenEngine
from stillhouse.errors import EngineUnavailableError, OverloadedError
from stillhouse.serving.queue.config import QueueConfig
from stillhouse.serving.queue.retry_after import RetryAfter
from stillhouse.serving.queue.scheduler import FairScheduler, Ticket
from stillhouse.serving.registry.replicas import Replica, ReplicaSet
from stillhouse.telemetry.metrics import Metrics
from stillhouse.types.service_tier import ServiceTier


class Refusal(StrEnum):
    """Why a request was refused: a label of the metrics."""

    #: All of the model's slots are taken.
    FULL = "full"
    #: The other slots are reserved, and the account or its key has its share.
    SHARE = "share"
    #: The account or the key is at a limit of its own.
    LIMIT = "limit"
    #: It is fail-fast, and would have had to wait.
    FAIL_FAST = "fail_fast"
    #: It has waited for as long as its tier may.
    WAITED = "waited"


class RequestQueue:
    """
    The queue before the replicas of one model.

    The queue pauses while no replica serves, as after a crash: waiting requests keep their position
    and their deadline, and new ones join them.
    """

    def __init__(
        self,
        model_id: str,
        *,
        replicas: ReplicaSet,
        rules: QueueConfig,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self.model_id = model_id
        self.max_wait_of = rules.max_wait_of
        self.clock = clock
        self._metrics = metrics
        self._scheduler = FairScheduler(
            max_sequences=0, prompt_window_tokens=rules.prompt_window_tokens
        )
        self._replicas = replicas
        replicas.on_serving(self._dispatch)
        self._retry_after = RetryAfter(clock)
        self._waiting: dict[Ticket, QueueEntry] = {}

    def would_wait(self, ticket: Ticket) -> bool:
        """Returns whether a new request could not be dispatched at once."""
        self._read_capacity()
        return self._scheduler.would_wait(ticket, self._fits)

    def refusal(
        self, reason: Refusal, tier: ServiceTier
    ) -> OverloadedError | EngineUnavailableError:
        """Counts a refusal, and returns the error, with the time after which to retry."""
        self.count_refusal(reason)
        retry_after_s = self._retry_after.estimate_s(self._scheduler.num_waiting(tier))
        if not self._replicas.is_serving:
            return EngineUnavailableError(
                "The engine is restarting after a crash, retry later", retry_after_s=retry_after_s
            )
        return OverloadedError("Model busy, retry later", retry_after_s=retry_after_s)

    def count_refusal(self, reason: Refusal) -> None:
        """Counts a refusal for the metrics."""
        self._metrics.queue_refused.labels(self.model_id, reason).inc()

    def charge(self, account_id: int, key_id: int, tier: ServiceTier, weighted_tokens: int) -> None:
        """Charges an account for work on the host; a negative amount takes it back."""
        self._scheduler.charge(account_id, key_id, tier, weighted_tokens)

    # The methods below are called by the queue's entries alone.

    def join(self, entry: QueueEntry) -> None:
        """Appends a request, and dispatches what can be."""
        self._waiting[entry.ticket] = entry
        self._scheduler.join(entry.ticket)
        self._metrics.waiting.labels(self.model_id, entry.ticket.tier).inc()
        self._dispatch()

    def leave(self, entry: QueueEntry) -> None:
        """Removes a waiting request."""
        del self._waiting[entry.ticket]
        self._scheduler.leave(entry.ticket)
        self._metrics.waiting.labels(self.model_id, entry.ticket.tier).dec()
        self._dispatch()

    def requeue(self, entry: QueueEntry) -> None:
        """Puts a request for which nothing was generated before the others of its key."""
        self._waiting[entry.ticket] = entry
        self._scheduler.requeue(entry.ticket)
        self._metrics.waiting.labels(self.model_id, entry.ticket.tier).inc()
        self._dispatch()

    def record_tokens(self, ticket: Ticket, count: int) -> None:
        """Charges generated tokens to a request."""
        self._scheduler.charge_completion(ticket, count)

    def record_prompt_done(self, ticket: Ticket, *, cached_tokens: int) -> None:
        """Frees the part of the prompt window that a request held."""
        self._scheduler.end_prompt(ticket, cached_tokens=cached_tokens)
        self._dispatch()

    def end_sequence(self, ticket: Ticket) -> None:
        """Frees the engine's slot of one of a request's sequences."""
        self._scheduler.end_sequence(ticket)
        self._dispatch()

    def end(self, ticket: Ticket) -> None:
        """Frees all that a request held of the engine."""
        self._scheduler.end(ticket)
        self._dispatch()
        self._retry_after.record_end(is_idle=self._scheduler.is_idle)

    def _dispatch(self) -> None:
        if not self._waiting:
            return
        self._read_capacity()
        while (ticket := self._scheduler.dispatch_next(self._fits)) is not None:
            replica = self._replicas.pick(ticket.num_sequences)
            assert replica is not None, "the scheduler saw a free replica. This is a bug."
            self._retry_after.record_start()
            entry = self._waiting.pop(ticket)
            waited_s = entry.dispatch(replica)
            self._metrics.waiting.labels(self.model_id, ticket.tier).dec()
            self._metrics.queue_s.labels(self.model_id, ticket.tier).observe(waited_s)

    def _read_capacity(self) -> None:
        """Reads the capacity of the replicas that serve now: one may come or go at any time."""
        self._scheduler.resize(
            max_sequences=self._replicas.max_sequences, num_replicas=self._replicas.num_serving
        )

    def _fits(self, num_sequences: int) -> bool:
        return self._replicas.pick(num_sequences) is not None


class _State(Enum):
    NEW = auto()
    WAITING = auto()
    AT_ENGINE = auto()
    OVER = auto()


class QueueEntry:
    """
    One request in the queue, and then at an engine.

    Args:
        is_fail_fast: Refuse the request if it has to wait.

    """

    def __init__(self, queue: RequestQueue, ticket: Ticket, *, is_fail_fast: bool) -> None:
        self.ticket = ticket
        self._queue = queue
        self._is_fail_fast = is_fail_fast
        self._state = _State.NEW
        self._is_prompt_done = False
        self._has_survived_crash = False
        self._joined_s = 0.0
        self._woken: asyncio.Future[None] | None = None  # set while it waits
        self._replica: Replica | None = None  # set from its first dispatch on
        self._num_running = 0

    @property
    def engine(self) -> TokenEngine:
        """The engine that runs all of the request's answers; it has one once it is dispatched."""
        assert self._replica is not None, "a request that waits has no engine. This is a bug."
        return self._replica.engine

    @property
    def max_wait_s(self) -> float:
        """How long a request of this tier waits at most."""
        return self._queue.max_wait_of(self.ticket.tier)

    async def wait(self) -> bool:
        """
        Waits until the request is dispatched; `end` or `requeue` must follow.

        Returns:
            False if `leave` was called first.

        Raises:
            OverloadedError: It has waited for as long as its tier may.
            EngineUnavailableError: And no engine is back from its crash.

        """
        if self._state is _State.NEW:
            self._state = _State.WAITING
            self._joined_s = self._queue.clock.monotonic_s()
            self._queue.join(self)
        if self._state is _State.WAITING and not self._is_fail_fast:
            await self._wait_for_dispatch()
        if self._state is _State.WAITING:
            self.end()
            reason = Refusal.FAIL_FAST if self._is_fail_fast else Refusal.WAITED
            raise self._queue.refusal(reason, self.ticket.tier)
        return self._state is _State.AT_ENGINE

    def dispatch(self, replica: Replica) -> float:
        """Goes to the engine of *replica*; returns how long it has waited, in seconds."""
        self._state = _State.AT_ENGINE
        self._replica = replica
        self._num_running = self.ticket.num_sequences
        replica.assign(self._num_running)
        self._wake()
        return self._queue.clock.monotonic_s() - self._joined_s

    def leave(self) -> None:
        """Leaves the queue; a request at an engine stays there."""
        if self._state is not _State.AT_ENGINE:
            self.end()
            self._wake()

    def may_requeue(self, *, has_crashed: bool) -> bool:
        """
        Returns whether a request whose engine is gone may wait for the next one.

        It may if the engine generated nothing for it: once after a crash of the engine that ran it,
        and always if the engine was gone before it was given the request.
        """
        return (
            self._state is _State.AT_ENGINE
            and not self._is_prompt_done
            and not self._is_fail_fast
            and not (self._has_survived_crash if has_crashed else self._has_live_engine)
        )

    def requeue(self, *, has_crashed: bool) -> None:
        """Waits again, at the front of the queue and for as long as its tier may."""
        self._has_survived_crash |= has_crashed
        self._state = _State.WAITING
        self._joined_s = self._queue.clock.monotonic_s()
        self._woken = None
        self._leave_engine()
        self._queue.requeue(self)

    def record_step(self, num_tokens: int, *, cached_tokens: int) -> None:
        """Charges the tokens of one engine step to the request."""
        self._queue.record_tokens(self.ticket, num_tokens)
        if not self._is_prompt_done:
            self._is_prompt_done = True
            self._queue.record_prompt_done(self.ticket, cached_tokens=cached_tokens)

    def end_sequence(self) -> None:
        """One of the request's sequences has ended."""
        if self._state is _State.AT_ENGINE and self._replica is not None:
            self._num_running -= 1
            self._replica.release(1)
            self._queue.end_sequence(self.ticket)

    def end(self) -> None:
        """Leaves the queue and the engine; may be repeated."""
        before, self._state = self._state, _State.OVER
        if before is _State.WAITING:
            self._queue.leave(self)
        elif before is _State.AT_ENGINE:
            self._leave_engine()
            self._queue.end(self.ticket)

    @property
    def _has_live_engine(self) -> bool:
        return self._replica is not None and self._replica.is_serving

    def _leave_engine(self) -> None:
        if self._replica is not None:
            self._replica.release(self._num_running)
            self._num_running = 0

    async def _wait_for_dispatch(self) -> None:
        self._woken = asyncio.get_running_loop().create_future()
        with suppress(TimeoutError):
            async with asyncio.timeout(self.max_wait_s):
                await self._woken

    def _wake(self) -> None:
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)
