"""The clock that a run is timed with; tests pass one that they move themselves."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Returns the time: `now_ms` for dates in reports, `monotonic_s` for durations."""

    def now_ms(self) -> int:
        """Returns milliseconds since 1970-01-01 UTC."""
        ...

    def monotonic_s(self) -> float:
        """Returns seconds from an arbitrary start that never jump back."""
        ...
