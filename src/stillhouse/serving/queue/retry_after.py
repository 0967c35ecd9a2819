"""Estimates when a refused client should retry, from how fast requests end."""

from __future__ import annotations

from collections import deque

from stillhouse.clock import Clock

#: The most recent endings that count.
_NUM_ENDINGS = 32

#: OpenAI's clients ignore a Retry-After above a minute.
_SHORTEST_S, _LONGEST_S = 1.0, 60.0


class RetryAfter:
    """Records when a model's requests ended since its queue was last idle."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._times_s: deque[float] = deque(maxlen=_NUM_ENDINGS + 1)

    def record_start(self) -> None:
        """Records that a request was dispatched."""
        if not self._times_s:
            self._times_s.append(self._clock.monotonic_s())

    def record_end(self, *, is_idle: bool) -> None:
        """Records that a request has ended; *is_idle* if it was the last one."""
        if is_idle:
            self._times_s.clear()
        else:
            self._times_s.append(self._clock.monotonic_s())

    def estimate_s(self, num_ahead: int) -> float:
        """Returns when a new request behind *num_ahead* others might start; 1 to 60 seconds."""
        if not self._times_s:
            return _SHORTEST_S
        observed_s = self._clock.monotonic_s() - self._times_s[0]
        per_request_s = observed_s / max(1, len(self._times_s) - 1)
        return min(max(_SHORTEST_S, (num_ahead + 1) * per_request_s), _LONGEST_S)
