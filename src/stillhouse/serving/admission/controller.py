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

#: A second of work on the host counts as so many weighted tokens of the engine: what an engine
#: serves in it that gives 60 sequences 8 tokens a second.
WORK_TOKENS_PER_S = 1000


class AdmissionController:
    """
    Refuses what is too much before anything is held for it, so that nothing queues without end.

    Nor can one account take all of a model's slots, however many keys it has. The last eighth of
    them is for accounts that have less than their share, which is what each would have if one
    account more were here. So beside one other account, whatever that does, an account always gets
    an eighth, and then all that comes free until it has a third. What an account can have is shared
    by the same rule between its keys.

    Args:
        limits: Of each account and key.

    """

    def __init__(
        self, rules: QueueConfig, *, limits: RateLimiter, clock: Clock, metrics: Metrics
    ) -> None:
        self._rules = rules
        self._limits = limits
        self._clock = clock
        self._metrics = metrics
        self._turns: dict[str, RequestQueue] = {}
        self._taken: dict[str, ShareQuota] = {}  # by model

    def refuse_if_full(
        self, model_id: str, account_id: int, key_id: int, tier: ServiceTier
    ) -> None:
        """
        Refuse a request before any work is done for it; `take` looks again.

        Raises:
            OverloadedError: Every place is taken, or almost, and the account, or its key, has its
                share of them.

        """
        taken = self._taken.get(model_id)
        if taken is None:
            return
        if taken.is_full:
            raise self._turns[model_id].refusal(Refusal.FULL, tier)
        if taken.has_share(account_id, key_id):
            raise self._turns[model_id].refusal(Refusal.SHARE, tier)

    def refuse_early(self, model_id: str, account_id: int, key_id: int, tier: ServiceTier) -> None:
        """
        Refuse a request before any work is done for it, also for its account's limits.

        Raises:
            OverloadedError: As `refuse_if_full` does.
            RateLimitError: The account or its key has as many as it may, or the account has used
                up its minute.

        """
        self.refuse_if_full(model_id, account_id, key_id, tier)
        try:
            self._limits.check(account_id, key_id, model_id)
        except RateLimitError:
            if turns := self._turns.get(model_id):
                turns.count_refusal(Refusal.LIMIT)
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
        Charge work on the host, such as compiling a schema, to an account's fairness at a model.

        It pays with later turns at the engine, `WORK_TOKENS_PER_S` weighted tokens a second. While
        nobody uses the model there is nobody to be fair to, and nothing is counted.
        """
        if turns := self._turns.get(model_id):
            turns.charge(account_id, key_id, tier, round(seconds * WORK_TOKENS_PER_S))

    def take(
        self,
        ticket: Ticket,
        *,
        model_id: str,
        replicas: ReplicaSet,
        is_fail_fast: bool = False,
    ) -> Slot:
        """
        Take a place, which must be given back.

        Args:
            replicas: The model's.
            is_fail_fast: Refuse what would have to wait for its turn.

        Raises:
            OverloadedError: Every place is taken, or almost, and the account, or its key, has its
                share of them; or it would have to wait.
            EngineUnavailableError: It would have to wait for the engine to restart.
            RateLimitError: The account or its key has as many as it may, or the account has used
                up its minute.

        """
        turns = self._turns_of(model_id, replicas)
        self.refuse_if_full(model_id, ticket.account_id, ticket.key_id, ticket.tier)
        if is_fail_fast and turns.would_wait(ticket):
            raise turns.refusal(Refusal.FAIL_FAST, ticket.tier)
        try:
            self._limits.enter(
                ticket.account_id, ticket.key_id, model_id, prompt_tokens=ticket.prompt_tokens
            )
        except RateLimitError:
            turns.count_refusal(Refusal.LIMIT)
            raise
        if model_id not in self._taken:
            self._taken[model_id] = ShareQuota(self._rules.max_outstanding)
        self._taken[model_id].acquire(ticket.account_id, ticket.key_id)
        self._metrics.outstanding.labels(model_id).inc()
        turn = QueueEntry(turns, ticket, is_fail_fast=is_fail_fast)
        return Slot(self, model_id, turn)

    def give_back(self, place: Slot, *, completion_tokens: int) -> None:
        """Count what was generated in a place and let it go."""
        place.turn.end()  # whatever happened to the completion, it keeps nobody waiting
        ticket = place.turn.ticket
        self._limits.leave(
            ticket.account_id, ticket.key_id, place.model_id, completion_tokens=completion_tokens
        )
        self._taken[place.model_id].release(ticket.account_id, ticket.key_id)
        self._metrics.outstanding.labels(place.model_id).dec()

    def _turns_of(self, model_id: str, replicas: ReplicaSet) -> RequestQueue:
        if model_id not in self._turns:
            self._turns[model_id] = RequestQueue(
                model_id,
                replicas=replicas,
                rules=self._rules,
                clock=self._clock,
                metrics=self._metrics,
            )
        return self._turns[model_id]


@dataclass(frozen=True, slots=True)
class Slot:
    """One request's right to be here, and its turn at the engine."""

    _places: AdmissionController
    model_id: str
    turn: QueueEntry

    def give_back(self, *, completion_tokens: int = 0) -> None:
        """Let another request have it; called once."""
        self._places.give_back(self, completion_tokens=completion_tokens)
