"""Places for requests in flight: so many per model, and so many of them for each account."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from stillhouse.errors import OverloadedError
from stillhouse.limits import Limits
from stillhouse.metrics import Metrics

_BUSY_RETRY_AFTER_S = 1.0


class Places:
    """
    Refuses what is too much, so that nothing queues without end.

    Args:
        max_outstanding: Requests in flight per model, whoever they are from.
        limits: Of each account.

    """

    def __init__(self, *, max_outstanding: int, limits: Limits, metrics: Metrics) -> None:
        self._max_outstanding = max_outstanding
        self._limits = limits
        self._metrics = metrics
        self._outstanding: Counter[str] = Counter()

    def take(
        self, account_id: int, model_id: str, *, prompt_tokens: int, at_most: int | None = None
    ) -> Place:
        """
        Take a place, which must be given back.

        Args:
            at_most: Refuse where so many are taken already, though there are more.

        Raises:
            OverloadedError: Every place is taken.
            RateLimitError: The account has as many as it may, or has used up its minute.

        """
        num_places = (
            self._max_outstanding if at_most is None else min(at_most, self._max_outstanding)
        )
        if self._outstanding[model_id] >= num_places:
            raise OverloadedError("Model busy, retry later", retry_after_s=_BUSY_RETRY_AFTER_S)
        self._limits.enter(account_id, model_id, prompt_tokens=prompt_tokens)
        self._count(model_id, 1)
        return Place(self, account_id, model_id)

    def give_back(self, place: Place, *, completion_tokens: int) -> None:
        """Count what was generated in a place and let it go."""
        self._limits.leave(place.account_id, place.model_id, completion_tokens=completion_tokens)
        self._count(place.model_id, -1)

    def _count(self, model_id: str, change: int) -> None:
        self._outstanding[model_id] += change
        self._metrics.outstanding.labels(model_id).inc(change)


@dataclass(frozen=True, slots=True)
class Place:
    """One request's right to be in flight."""

    _places: Places
    account_id: int
    model_id: str

    def give_back(self, *, completion_tokens: int = 0) -> None:
        """Let another request have it; called once."""
        self._places.give_back(self, completion_tokens=completion_tokens)
