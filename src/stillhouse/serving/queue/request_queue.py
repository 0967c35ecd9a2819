"""Requests that wait for their turn at one engine, and are woken when it has come."""

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
    """Why a request was refused, as the metrics tell it."""

    #: The model has as many requests as it may.
    FULL = "full"
    #: It has almost as many, and the account of this one, or its key, its share of them.
    SHARE = "share"
    #: The account or the key has.
    LIMIT = "limit"
    #: It would have had to wait, and did not want to.
    FAIL_FAST = "fail_fast"
    #: It has waited for as long as its tier may.
    WAITED = "waited"


class RequestQueue:
    """
    The queue before the replicas of one model.

    Nothing is dispatched while no replica serves, after a crash for one: what waits keeps its place
    and its time, and what comes joins it.
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
        self._order = FairScheduler(
            max_sequences=0, prompt_window_tokens=rules.prompt_window_tokens
        )
        self._replicas = replicas
        replicas.on_serving(self._let_go)
        self._pace = RetryAfter(clock)
        self._waiting: dict[Ticket, QueueEntry] = {}

    def would_wait(self, ticket: Ticket) -> bool:
        """Whether a request could not go to the engine at once."""
        self._read_capacity()
        return self._order.would_wait(ticket, self._fits)

    def refusal(
        self, reason: Refusal, tier: ServiceTier
    ) -> OverloadedError | EngineUnavailableError:
        """Count a refusal, and say when a request of *tier* might have its turn."""
        self.count_refusal(reason)
        retry_after_s = self._pace.wait_s(self._order.num_waiting(tier))
        if not self._replicas.is_serving:
            return EngineUnavailableError(
                "The engine is restarting after a crash, retry later", retry_after_s=retry_after_s
            )
        return OverloadedError("Model busy, retry later", retry_after_s=retry_after_s)

    def count_refusal(self, reason: Refusal) -> None:
        """Count a refusal for the metrics."""
        self._metrics.queue_refused.labels(self.model_id, reason).inc()

    def charge(self, account_id: int, key_id: int, tier: ServiceTier, weighted_tokens: int) -> None:
        """Count work for an account that its engine has not done; negative takes it back."""
        self._order.charge(account_id, key_id, tier, weighted_tokens)

    # What follows is between the queue and its turns.

    def join(self, turn: QueueEntry) -> None:
        """Let a request wait, if only for a moment."""
        self._waiting[turn.ticket] = turn
        self._order.join(turn.ticket)
        self._metrics.waiting.labels(self.model_id, turn.ticket.tier).inc()
        self._let_go()

    def leave(self, turn: QueueEntry) -> None:
        """Take out a request that waits."""
        del self._waiting[turn.ticket]
        self._order.leave(turn.ticket)
        self._metrics.waiting.labels(self.model_id, turn.ticket.tier).dec()
        self._let_go()

    def requeue(self, turn: QueueEntry) -> None:
        """Let a request for which nothing was made wait again, before its key's others."""
        self._waiting[turn.ticket] = turn
        self._order.requeue(turn.ticket)
        self._metrics.waiting.labels(self.model_id, turn.ticket.tier).inc()
        self._let_go()

    def record_tokens(self, ticket: Ticket, count: int) -> None:
        """Charge what was generated for a request."""
        self._order.made(ticket, count)

    def saw_prompt_done(self, ticket: Ticket, *, cached_tokens: int) -> None:
        """A request's prompt stands before nobody any more."""
        self._order.prompt_done(ticket, cached_tokens=cached_tokens)
        self._let_go()

    def end_sequence(self, ticket: Ticket) -> None:
        """One of a request's sequences has ended."""
        self._order.end_sequence(ticket)
        self._let_go()

    def end(self, ticket: Ticket) -> None:
        """A request has left the engine."""
        self._order.end(ticket)
        self._let_go()
        self._pace.record_end(is_idle=self._order.is_idle)

    def _let_go(self) -> None:
        if not self._waiting:
            return
        self._read_capacity()
        while (ticket := self._order.next(self._fits)) is not None:
            replica = self._replicas.pick(ticket.num_sequences)
            assert replica is not None, "the scheduler saw a replica with room. This is a bug."
            self._pace.record_start()
            turn = self._waiting.pop(ticket)
            waited_s = turn.come(replica)
            self._metrics.waiting.labels(self.model_id, ticket.tier).dec()
            self._metrics.queue_s.labels(self.model_id, ticket.tier).observe(waited_s)

    def _read_capacity(self) -> None:
        """Read the capacity of the replicas that serve now: one may come or go at any time."""
        self._order.resize(
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
    One request's way through the queue and its time at the engine.

    Args:
        is_fail_fast: It is refused where it has to wait.

    """

    def __init__(self, turns: RequestQueue, ticket: Ticket, *, is_fail_fast: bool) -> None:
        self.ticket = ticket
        self._turns = turns
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
        """How long a request of this tier waits."""
        return self._turns.max_wait_of(self.ticket.tier)

    async def wait(self) -> bool:
        """
        Wait for the turn, which `end` or `requeue` must follow.

        Returns:
            False where `leave` was called before it came.

        Raises:
            OverloadedError: It did not come in the time that the request's tier has.
            EngineUnavailableError: Nor is the engine back from its crash.

        """
        if self._state is _State.NEW:
            self._state = _State.WAITING
            self._joined_s = self._turns.clock.monotonic_s()
            self._turns.join(self)
        if self._state is _State.WAITING and not self._is_fail_fast:
            await self._wait_in_line()
        if self._state is _State.WAITING:
            self.end()
            reason = Refusal.FAIL_FAST if self._is_fail_fast else Refusal.WAITED
            raise self._turns.refusal(reason, self.ticket.tier)
        return self._state is _State.AT_ENGINE

    def come(self, replica: Replica) -> float:
        """Go to the engine of *replica*; returns how long it has waited, in seconds."""
        self._state = _State.AT_ENGINE
        self._replica = replica
        self._num_running = self.ticket.num_sequences
        replica.assign(self._num_running)
        self._wake()
        return self._turns.clock.monotonic_s() - self._joined_s

    def leave(self) -> None:
        """Wait no more; a request at the engine stays there."""
        if self._state is not _State.AT_ENGINE:
            self.end()
            self._wake()

    def may_requeue(self, *, has_crashed: bool) -> bool:
        """
        Whether a request whose engine is gone may wait for the next one.

        It may if the engine made nothing for it: once after a crash in which it was the engine's,
        and always where the engine was gone before it was given it.
        """
        return (
            self._state is _State.AT_ENGINE
            and not self._is_prompt_done
            and not self._is_fail_fast
            and not (self._has_survived_crash if has_crashed else self._has_live_engine)
        )

    def requeue(self, *, has_crashed: bool) -> None:
        """Wait again, at the front of the queue and for as long as its tier may."""
        self._has_survived_crash |= has_crashed
        self._state = _State.WAITING
        self._joined_s = self._turns.clock.monotonic_s()
        self._woken = None
        self._leave_engine()
        self._turns.requeue(self)

    def record_step(self, num_tokens: int, *, cached_tokens: int) -> None:
        """Take an engine's next step into account, as far as it was for this request."""
        self._turns.record_tokens(self.ticket, num_tokens)
        if not self._is_prompt_done:
            self._is_prompt_done = True
            self._turns.saw_prompt_done(self.ticket, cached_tokens=cached_tokens)

    def end_sequence(self) -> None:
        """One of the request's sequences has ended."""
        if self._state is _State.AT_ENGINE and self._replica is not None:
            self._num_running -= 1
            self._replica.release(1)
            self._turns.end_sequence(self.ticket)

    def end(self) -> None:
        """Nothing of the request waits or is at the engine any more; may be repeated."""
        before, self._state = self._state, _State.OVER
        if before is _State.WAITING:
            self._turns.leave(self)
        elif before is _State.AT_ENGINE:
            self._leave_engine()
            self._turns.end(self.ticket)

    @property
    def _has_live_engine(self) -> bool:
        return self._replica is not None and self._replica.is_serving

    def _leave_engine(self) -> None:
        if self._replica is not None:
            self._replica.release(self._num_running)
            self._num_running = 0

    async def _wait_in_line(self) -> None:
        self._woken = asyncio.get_running_loop().create_future()
        with suppress(TimeoutError):
            async with asyncio.timeout(self.max_wait_s):
                await self._woken

    def _wake(self) -> None:
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)
