"""Limits a rate with a bucket that refills steadily."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

_MINUTE_S = 60.0

#: Clocks count in steps; a caller that is early by less than this is let through.
_TOLERANCE_S = 1e-3


@dataclass(slots=True)
class TokenBucket:
    """
    Lets a burst through at once, and then a steady rate.

    The state is one number, the moment when the bucket will be full again.

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
        """Makes a bucket that holds a minute's worth."""
        return cls(amount / _MINUTE_S, amount)

    def wait_s(self, now_s: float, amount: float = 1) -> float:
        """Returns how long it takes until *amount* is available; 0 if it is."""
        wait_s = max(self._full_at_s, now_s) - now_s - (self.burst - amount) / self.per_s
        return wait_s if wait_s > _TOLERANCE_S else 0

    def take(self, amount: float, now_s: float) -> None:
        """Takes *amount*, even more than is available: later callers wait until it has refilled."""
        self._full_at_s = max(self._full_at_s, now_s) + amount / self.per_s

    def refund(self, amount: float) -> None:
        """Returns an amount that was taken and not used."""
        self._full_at_s -= amount / self.per_s

    def is_full(self, now_s: float) -> bool:
        """Whether the bucket is full, so that its state can be dropped."""
        return now_s >= self._full_at_s
