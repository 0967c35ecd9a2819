from __future__ import annotations

from stillhouse.clock import FrozenClock
from stillhouse.telemetry.metrics import LastMinute, MinuteRates

NOTHING = MinuteRates(requests_per_s=0, first_token_s=None, tokens_per_s={})


def test_the_last_minute_is_sixty_whole_seconds():
    """What happens now counts from the next second on, for sixty of them, and then no more."""
    clock = FrozenClock()
    minute = LastMinute(clock)
    minute.record_request()
    minute.record_tokens("a/b", 30)
    minute.record_first_token(0.25)
    assert NOTHING == minute.rates()

    for _ in range(60):
        clock.advance(1)
        assert MinuteRates(1 / 60, 0.25, {"a/b": 0.5}) == minute.rates()
    clock.advance(1)
    assert NOTHING == minute.rates()


def test_seconds_are_summed():
    """Rates are sums over the minute, and the wait for a first token is the requests' mean."""
    clock = FrozenClock()
    minute = LastMinute(clock)
    for wait_s in (0.5, 1.0, 1.5):
        minute.record_request()
        minute.record_first_token(wait_s)
        minute.record_tokens("a/b", 10)
        minute.record_tokens("c/d", 20)
        clock.advance(7)

    assert MinuteRates(3 / 60, 1.0, {"a/b": 0.5, "c/d": 1.0}) == minute.rates()


def test_a_place_is_used_again_minute_after_minute():
    """An hour of one token per second is one token per second."""
    clock = FrozenClock()
    minute = LastMinute(clock)
    for _ in range(3600):
        minute.record_tokens("a/b", 1)
        clock.advance(1)

    assert {"a/b": 1.0} == minute.rates().tokens_per_s
