"""Provides time as a dependency that tests can freeze; no other module reads the system clock."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Tells the time: `now_ms` for stored or shown times, `monotonic_s` for durations."""

    def now_ms(self) -> int:
        """Returns milliseconds since 1970-01-01 UTC."""
        ...

    def monotonic_s(self) -> float:
        """Returns seconds from an arbitrary start; they never decrease."""
        ...


class SystemClock:
    """Reads the machine's clock."""

    def now_ms(self) -> int:
        """Returns milliseconds since 1970-01-01 UTC."""
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        """Returns seconds from an arbitrary start; they never decrease."""
        return time.monotonic()


class FrozenClock:
    """Stands still until `advance` moves it."""

    def __init__(self, now_ms: int = 1_750_000_000_000) -> None:
        self._now_ms = now_ms

    def now_ms(self) -> int:
        """Returns milliseconds since 1970-01-01 UTC."""
        return self._now_ms

    def monotonic_s(self) -> float:
        """Returns seconds from an arbitrary start; they never decrease."""
        return self._now_ms / 1000

    def advance(self, seconds: float) -> None:
        """Moves time forward by *seconds* (back when negative, as a system's clock can jump)."""
        self._now_ms += round(seconds * 1000)
