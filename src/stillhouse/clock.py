"""Time as a dependency, so that tests can freeze it. Nothing else reads the system's clock."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """What time it is: `now_ms` for what is stored or shown, `monotonic_s` for durations."""

    def now_ms(self) -> int:
        """Milliseconds since 1970-01-01 UTC."""
        ...

    def monotonic_s(self) -> float:
        """Seconds from an arbitrary start that never jump back."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now_ms(self) -> int:
        """Milliseconds since 1970-01-01 UTC."""
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        """Seconds from an arbitrary start that never jump back."""
        return time.monotonic()


class FrozenClock:
    """A clock that moves only when told to."""

    def __init__(self, now_ms: int = 1_750_000_000_000) -> None:
        self._now_ms = now_ms

    def now_ms(self) -> int:
        """Milliseconds since 1970-01-01 UTC."""
        return self._now_ms

    def monotonic_s(self) -> float:
        """Seconds from an arbitrary start that never jump back."""
        return self._now_ms / 1000

    def advance(self, seconds: float) -> None:
        """Move time forward by *seconds* (backward when negative, as a system's clock can jump)."""
        self._now_ms += round(seconds * 1000)
