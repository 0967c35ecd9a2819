"""Sums the recent work of each account, with exponential decay."""

from __future__ import annotations

from stillhouse.clock import Clock

#: Below that an account's sum is dropped.
_NEGLIGIBLE_S = 0.001
_MAX_REMEMBERED = 10_000


class RecentWork:
    """
    Counts seconds of work by account; a sum halves in every half-life.

    Memory is bounded: beyond the bound, the accounts that have been idle for longest are dropped.
    """

    def __init__(self, *, half_life_s: float, clock: Clock) -> None:
        self._half_life_s = half_life_s
        self._clock = clock
        self._noted: dict[int, tuple[float, float]] = {}  # seconds, and when they were so many

    def __len__(self) -> int:
        """Returns how many accounts have a sum."""
        return len(self._noted)

    def of(self, account_id: int) -> float:
        """Returns the account's recent work, in seconds."""
        seconds, noted_s = self._noted.get(account_id, (0.0, 0.0))
        age_s = self._clock.monotonic_s() - noted_s
        return float(seconds * 0.5 ** (age_s / self._half_life_s))

    def add(self, account_id: int, seconds: float) -> None:
        """Adds work that was done for the account."""
        seconds += self.of(account_id)
        self._noted.pop(account_id, None)
        self._noted[account_id] = (seconds, self._clock.monotonic_s())
        while self._noted:
            oldest = next(iter(self._noted))
            if len(self._noted) <= _MAX_REMEMBERED and self.of(oldest) >= _NEGLIGIBLE_S:
                break
            del self._noted[oldest]
