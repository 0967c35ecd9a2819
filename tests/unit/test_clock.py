from __future__ import annotations

import time

from stillhouse.clock import FrozenClock, SystemClock


def test_frozen_clock_moves_only_when_told() -> None:
    """A test decides what time it is, to the millisecond."""
    clock = FrozenClock(now_ms=1_000)
    assert (1_000, 1.0) == (clock.now_ms(), clock.monotonic_s())
    clock.advance(0.25)
    assert (1_250, 1.25) == (clock.now_ms(), clock.monotonic_s())


def test_system_clock_is_the_machines() -> None:
    """The system's clock tells UTC in milliseconds, and durations that never run backwards."""
    clock = SystemClock()
    before_s, before_ms = clock.monotonic_s(), time.time_ns() // 1_000_000
    assert before_ms <= clock.now_ms() <= before_ms + 60_000
    assert before_s <= clock.monotonic_s()
