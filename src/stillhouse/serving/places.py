"""Places for requests that are not settled yet: so many per model, per account and per key."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from stillhouse.chat import ServiceTier
from stillhouse.clock import Clock
from stillhouse.errors import RateLimitError
from stillhouse.limits import Limits
from stillhouse.metrics import Metrics
from stillhouse.serving.queue.order import Ticket
from stillhouse.serving.queue.turns import QueueRules, Refusal, Turn, Turns

#: Of a model's places, this part is for keys that have few.
_LAST_PART = 8


class Places:
    """
    Refuses what is too much before anything is held for it, so that nothing queues without end.

    Nor can one key take all of a model's places. The last eighth of them is for keys that have less
    than their share, which is what each would have if one key more were here. So beside one other
    key, whatever that does, a key always gets an eighth, and then all that comes free until it has
    a third.

    Args:
        limits: Of each account and key.

    """

    def __init__(
        self, rules: QueueRules, *, limits: Limits, clock: Clock, metrics: Metrics
    ) -> None:
        self._rules = rules
        self._limits = limits
        self._clock = clock
        self._metrics = metrics
        self._turns: dict[str, Turns] = {}
        self._taken: dict[str, Counter[int]] = {}  # by model, then key

    def refuse_if_full(self, model_id: str, key_id: int, tier: ServiceTier) -> None:
        """
        Refuse a request before any work is done for it; `take` looks again.

        Raises:
            OverloadedError: Every place is taken, or almost, and the key has its share of them.

        """
        if reason := self._reason_to_refuse(self._taken.get(model_id, Counter()), key_id):
            raise self._turns[model_id].refusal(reason, tier)

    def take(
        self,
        ticket: Ticket,
        *,
        account_id: int,
        model_id: str,
        max_sequences: int,
        is_fail_fast: bool = False,
    ) -> Place:
        """
        Take a place, which must be given back.

        Args:
            max_sequences: Of the model's engine.
            is_fail_fast: Refuse what would have to wait for its turn.

        Raises:
            OverloadedError: Every place is taken, or almost, and the key has its share of them; or
                it would have to wait.
            RateLimitError: The account or its key has as many as it may, or the account has used
                up its minute.

        """
        turns = self._turns_of(model_id, max_sequences)
        self.refuse_if_full(model_id, ticket.key_id, ticket.tier)
        if is_fail_fast and turns.would_wait(ticket):
            raise turns.refusal(Refusal.FAIL_FAST, ticket.tier)
        try:
            self._limits.enter(
                account_id, ticket.key_id, model_id, prompt_tokens=ticket.prompt_tokens
            )
        except RateLimitError:
            turns.count_refusal(Refusal.LIMIT)
            raise
        self._taken.setdefault(model_id, Counter())[ticket.key_id] += 1
        self._metrics.outstanding.labels(model_id).inc()
        turn = Turn(turns, ticket, is_fail_fast=is_fail_fast)
        return Place(self, account_id, model_id, turn)

    def give_back(self, place: Place, *, completion_tokens: int) -> None:
        """Count what was generated in a place and let it go."""
        place.turn.end()  # whatever happened to the completion, it keeps nobody waiting
        key_id = place.turn.ticket.key_id
        self._limits.leave(
            place.account_id, key_id, place.model_id, completion_tokens=completion_tokens
        )
        taken = self._taken[place.model_id]
        taken[key_id] -= 1
        if not taken[key_id]:
            del taken[key_id]
        self._metrics.outstanding.labels(place.model_id).dec()

    def _reason_to_refuse(self, taken: Counter[int], key_id: int) -> Refusal | None:
        most = self._rules.max_outstanding
        num_free = most - taken.total()
        if num_free <= 0:
            return Refusal.FULL
        has_share = taken[key_id] * (len(taken) + 1) >= most
        return Refusal.SHARE if num_free <= most // _LAST_PART and has_share else None

    def _turns_of(self, model_id: str, max_sequences: int) -> Turns:
        if model_id not in self._turns:
            self._turns[model_id] = Turns(
                model_id,
                max_sequences=max_sequences,
                rules=self._rules,
                clock=self._clock,
                metrics=self._metrics,
            )
        return self._turns[model_id]


@dataclass(frozen=True, slots=True)
class Place:
    """One request's right to be here, and its turn at the engine."""

    _places: Places
    account_id: int
    model_id: str
    turn: Turn

    def give_back(self, *, completion_tokens: int = 0) -> None:
        """Let another request have it; called once."""
        self._places.give_back(self, completion_tokens=completion_tokens)
