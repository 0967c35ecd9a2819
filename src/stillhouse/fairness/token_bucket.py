"""A rate limit: a bucket that refills steadily."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

_MINUTE_S = 60.0

#: Clocks count in steps; whoever is early by less than this is not turned away.
_TOLERANCE_S = 1e-3


@dataclass(slots=True)
class TokenBucket:
    """
    Lets a burst through at once, and then a steady rate.

    It is one number, the moment when it will be full again, so that it costs nothing at rest.

    Args:
        per_s: How much it refills in a second.
        burst: How much it holds.

    Source:
        The generic cell rate algorithm, ITU-T I.371.

    """

    per_s: float
    burst: float
    _full_at_s: float = float("-inf")

    @classmethod
    def per_minute(cls, amount: int) -> Self:
        """Make a bucket that holds a minute's worth."""
        return cls(amount / _MINUTE_S, amount)

    def wait_s(self, now_s: float, amount: float = 1) -> float:
        """How long until *amount* is in it; 0 when it is."""
        wait_s = max(self._full_at_s, now_s) - now_s - (self.burst - amount) / self.per_s
        return wait_s if wait_s > _TOLERANCE_S else 0

    def take(self, amount: float, now_s: float) -> None:
        """Take *amount* out, even if it is not in it: whoever comes next waits for it."""
        self._full_at_s = max(self._full_at_s, now_s) + amount / self.per_s

    def refund(self, amount: float) -> None:
        """Put back what was taken and not needed."""
        self._full_at_s -= amount / self.per_s

    def is_full(self, now_s: float) -> bool:
        """Whether it is at rest, and may be forgotten."""
        return now_s >= self._full_at_s
