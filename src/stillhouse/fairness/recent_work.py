"""Who has had work done lately, and how much of it."""

from __future__ import annotations

from stillhouse.clock import Clock

#: Below that an account counts as one that never had any.
_NEGLIGIBLE_S = 0.001
_MAX_REMEMBERED = 10_000


class RecentWork:
    """
    Seconds of work by account, of which half is forgotten in every half-life.

    What is remembered is bounded: where there are too many accounts, those that have had nothing
    for longest are forgotten.
    """

    def __init__(self, *, half_life_s: float, clock: Clock) -> None:
        self._half_life_s = half_life_s
        self._clock = clock
        self._noted: dict[int, tuple[float, float]] = {}  # seconds, and when they were so many

    def __len__(self) -> int:
        """How many accounts are remembered."""
        return len(self._noted)

    def of(self, account_id: int) -> float:
        """How much the account has had lately, in seconds."""
        seconds, noted_s = self._noted.get(account_id, (0.0, 0.0))
        age_s = self._clock.monotonic_s() - noted_s
        return float(seconds * 0.5 ** (age_s / self._half_life_s))

    def add(self, account_id: int, seconds: float) -> None:
        """Count work that was done for the account."""
        seconds += self.of(account_id)
        self._noted.pop(account_id, None)
        self._noted[account_id] = (seconds, self._clock.monotonic_s())
        while self._noted:
            oldest = next(iter(self._noted))
            if len(self._noted) <= _MAX_REMEMBERED and self.of(oldest) >= _NEGLIGIBLE_S:
                break
            del self._noted[oldest]
