"""Admits requests while their model, account and key have free slots."""

from __future__ import annotations

from dataclasses import dataclass

from stillhouse.clock import Clock
from stillhouse.errors import RateLimitError
from stillhouse.fairness.share_quota import ShareQuota
from stillhouse.serving.admission.rate_limits import RateLimiter
from stillhouse.serving.queue.config import QueueConfig
from stillhouse.serving.queue.request_queue import QueueEntry, Refusal, RequestQueue
from stillhouse.serving.queue.scheduler import Ticket
from stillhouse.serving.registry.replicas import ReplicaSet
from stillhouse.telemetry.metrics import Metrics
from stillhouse.types.service_tier import ServiceTier

#: Weighted tokens that a second of work on the host counts as: what an engine serves in a second
#: that gives 60 sequences 8 tokens each.
WORK_TOKENS_PER_S = 1000


class AdmissionController:
    """
    Bounds the requests of each model, account and key before any money is held for them.

    One account cannot take all of a model's slots, however many keys it has. The last eighth is
    reserved for accounts below their share, which is what each would have if one account more were
    present. So beside a single other account, an account always gets an eighth of the slots, and
    then all that come free until it has a third. An account's keys divide its part by the same
    rule.

    Args:
        limits: Rates and requests in flight of each account and key.

    """

    def __init__(
        self, rules: QueueConfig, *, limits: RateLimiter, clock: Clock, metrics: Metrics
    ) -> None:
        self._rules = rules
        self._limits = limits
        self._clock = clock
        self._metrics = metrics
        self._queues: dict[str, RequestQueue] = {}
        self._taken: dict[str, ShareQuota] = {}  # by model

    def refuse_if_full(
        self, model_id: str, account_id: int, key_id: int, tier: ServiceTier
    ) -> None:
        """
        Refuses a request before any work is done for it; `admit` checks again.

        Raises:
            OverloadedError: All slots are taken; or the rest are reserved, and the account or its
                key has its share.

        """
        taken = self._taken.get(model_id)
        if taken is None:
            return
        if taken.is_full:
            raise self._queues[model_id].refusal(Refusal.FULL, tier)
        if taken.has_share(account_id, key_id):
            raise self._queues[model_id].refusal(Refusal.SHARE, tier)

    def refuse_early(self, model_id: str, account_id: int, key_id: int, tier: ServiceTier) -> None:
        """
        Refuses a request before any work is done for it, by its account's limits too.

        Raises:
            OverloadedError: As `refuse_if_full` does.
            RateLimitError: The account or its key has as many as it may, or the account has used
                up its minute.

        """
        self.refuse_if_full(model_id, account_id, key_id, tier)
        try:
            self._limits.check(account_id, key_id, model_id)
        except RateLimitError:
            if queue := self._queues.get(model_id):
                queue.count_refusal(Refusal.LIMIT)
            raise

    def charge_work(
        self,
        account_id: int,
        key_id: int,
        model_id: str,
        seconds: float,
        *,
        tier: ServiceTier = ServiceTier.DEFAULT,
    ) -> None:
        """
        Charges work on the host, such as compiling a schema, to an account's fairness at a model.

        The account is dispatched later for it, by `WORK_TOKENS_PER_S` weighted tokens a second.
        While no request is in the model's queue, nothing is counted.
        """
        if queue := self._queues.get(model_id):
            queue.charge(account_id, key_id, tier, round(seconds * WORK_TOKENS_PER_S))

    def admit(
        self,
        ticket: Ticket,
        *,
        model_id: str,
        replicas: ReplicaSet,
        is_fail_fast: bool = False,
    ) -> Slot:
        """
        Takes a slot, which must be released.

        Args:
            replicas: The model's.
            is_fail_fast: Refuse the request if it would have to wait in the queue.

        Raises:
            OverloadedError: All slots are taken; or the rest are reserved, and the account or its
                key has its share; or a fail-fast request would have to wait.
            EngineUnavailableError: A fail-fast request would have to wait for an engine's restart.
            RateLimitError: The account or its key has as many as it may, or the account has used
                up its minute.

        """
        queue = self._queue_of(model_id, replicas)
        self.refuse_if_full(model_id, ticket.account_id, ticket.key_id, ticket.tier)
        if is_fail_fast and queue.would_wait(ticket):
            raise queue.refusal(Refusal.FAIL_FAST, ticket.tier)
        try:
            self._limits.enter(
                ticket.account_id, ticket.key_id, model_id, prompt_tokens=ticket.prompt_tokens
            )
        except RateLimitError:
            queue.count_refusal(Refusal.LIMIT)
            raise
        if model_id not in self._taken:
            self._taken[model_id] = ShareQuota(self._rules.max_outstanding)
        self._taken[model_id].acquire(ticket.account_id, ticket.key_id)
        self._metrics.outstanding.labels(model_id).inc()
        entry = QueueEntry(queue, ticket, is_fail_fast=is_fail_fast)
        return Slot(self, model_id, entry)

    def release(self, slot: Slot, *, completion_tokens: int) -> None:
        """Frees a slot, and counts what was generated in it."""
        slot.entry.end()  # also where the completion's task has failed
        ticket = slot.entry.ticket
        self._limits.leave(
            ticket.account_id, ticket.key_id, slot.model_id, completion_tokens=completion_tokens
        )
        self._taken[slot.model_id].release(ticket.account_id, ticket.key_id)
        self._metrics.outstanding.labels(slot.model_id).dec()

    def _queue_of(self, model_id: str, replicas: ReplicaSet) -> RequestQueue:
        if model_id not in self._queues:
            self._queues[model_id] = RequestQueue(
                model_id,
                replicas=replicas,
                rules=self._rules,
                clock=self._clock,
                metrics=self._metrics,
            )
        return self._queues[model_id]


@dataclass(frozen=True, slots=True)
class Slot:
    """One admitted request: its slot of the model, and its entry in the queue."""

    _controller: AdmissionController
    model_id: str
    entry: QueueEntry

    def release(self, *, completion_tokens: int = 0) -> None:
        """Frees the slot; called once."""
        self._controller.release(self, completion_tokens=completion_tokens)
