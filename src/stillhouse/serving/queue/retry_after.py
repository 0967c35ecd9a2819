"""How fast requests end lately, and so when it is worth coming back."""

from __future__ import annotations

from collections import deque

from stillhouse.clock import Clock

#: Endings that "lately" means.
_NUM_ENDINGS = 32

#: Clients take a longer Retry-After for a mistake: OpenAI's ignore what is above a minute.
_SHORTEST_S, _LONGEST_S = 1.0, 60.0


class RetryAfter:
    """The endings of one engine's requests since it was last idle, the latest of them."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._times_s: deque[float] = deque(maxlen=_NUM_ENDINGS + 1)

    def saw_start(self) -> None:
        """A request has gone to the engine."""
        if not self._times_s:
            self._times_s.append(self._clock.monotonic_s())

    def saw_end(self, *, is_idle: bool) -> None:
        """A request has ended; *is_idle*: it was the last one."""
        if is_idle:
            self._times_s.clear()
        else:
            self._times_s.append(self._clock.monotonic_s())

    def wait_s(self, num_ahead: int) -> float:
        """When a newcomer behind so many might have its turn; 1 to 60 seconds."""
        if not self._times_s:
            return _SHORTEST_S
        lately_s = self._clock.monotonic_s() - self._times_s[0]
        each_s = lately_s / max(1, len(self._times_s) - 1)
        return min(max(_SHORTEST_S, (num_ahead + 1) * each_s), _LONGEST_S)
