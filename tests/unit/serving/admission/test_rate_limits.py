from __future__ import annotations

import pytest

from stillhouse.clock import FrozenClock
from stillhouse.errors import RateLimitError
from stillhouse.serving.admission.config import RateLimitsConfig
from stillhouse.serving.admission.rate_limits import RateLimiter

MODEL, OTHER_MODEL = "demo/a", "demo/b"
ACCOUNT, OTHER_ACCOUNT = 3, 4
KEY, OTHER_KEY = 5, 6


@pytest.fixture
def clock():
    return FrozenClock()


def enter(limits, account_id=ACCOUNT, model=MODEL, *, key_id=KEY, prompt_tokens=10):
    limits.enter(account_id, key_id, model, prompt_tokens=prompt_tokens)


def leave(limits, account_id=ACCOUNT, model=MODEL, *, key_id=KEY, completion_tokens=0):
    limits.leave(account_id, key_id, model, completion_tokens=completion_tokens)


def wait_s(limits) -> float:
    """For how long the next request is turned away; 0 lets it in."""
    try:
        enter(limits)
    except RateLimitError as error:
        return error.retry_after_s
    return 0


def test_so_many_in_flight_and_no_more(clock):
    """At the limit a request is refused until one has ended."""
    limits = RateLimiter(RateLimitsConfig(max_outstanding=3), clock)
    for _ in range(3):
        enter(limits)

    assert 1 == wait_s(limits)
    leave(limits)
    assert 0 == wait_s(limits)
    assert 1 == wait_s(limits)


@pytest.mark.parametrize(
    "rules",
    [
        RateLimitsConfig(max_outstanding=2),
        RateLimitsConfig(max_outstanding_per_key=2),
        RateLimitsConfig(requests_per_minute=2),
        RateLimitsConfig(tokens_per_minute=15),
    ],
)
def test_a_check_says_what_entering_would(clock, rules):
    """Before any work is done; and it counts nothing itself."""
    limits = RateLimiter(rules, clock)
    for _ in range(2):
        limits.check(ACCOUNT, KEY, MODEL)
        enter(limits)

    with pytest.raises(RateLimitError) as checked:
        limits.check(ACCOUNT, KEY, MODEL)
    with pytest.raises(RateLimitError) as entered:
        enter(limits)
    assert str(entered.value) == str(checked.value)
    limits.check(OTHER_ACCOUNT, OTHER_KEY, MODEL)
    assert 1 == len(limits)


def test_a_key_has_so_many_in_flight_of_its_accounts(clock):
    """One key at its limit is refused, another of the same account is not, nor another model."""
    limits = RateLimiter(RateLimitsConfig(max_outstanding=3, max_outstanding_per_key=2), clock)
    enter(limits)
    enter(limits)

    with pytest.raises(RateLimitError, match="Rate limited: 2 requests to demo/a are in flight"):
        enter(limits)
    enter(limits, model=OTHER_MODEL)
    enter(limits, key_id=OTHER_KEY)
    with pytest.raises(RateLimitError, match="Rate limited: 3 requests"):
        enter(limits, key_id=OTHER_KEY)
    leave(limits)
    enter(limits)


def test_accounts_and_models_are_apart(clock):
    """What one account does with one model takes nothing from others."""
    limits = RateLimiter(RateLimitsConfig(max_outstanding=1, requests_per_minute=1), clock)
    enter(limits)
    enter(limits, OTHER_ACCOUNT)
    enter(limits, model=OTHER_MODEL)

    assert 3 == len(limits)
    assert 1 == wait_s(limits)


def test_a_minutes_requests_may_come_at_once(clock):
    """Sixty per minute are sixty at once, then one a second."""
    limits = RateLimiter(RateLimitsConfig(requests_per_minute=60), clock)
    waits_s = [wait_s(limits) for _ in range(60)]

    assert [0] * 60 == waits_s
    assert pytest.approx(1, abs=1e-3) == wait_s(limits)
    clock.advance(1)
    assert 0 == wait_s(limits)
    assert pytest.approx(1, abs=1e-3) == wait_s(limits)


def test_no_minute_sees_more_than_burst_and_refill(clock):
    """Whoever asks ten times a second for two minutes gets a minute's worth and two refills."""
    limits = RateLimiter(RateLimitsConfig(requests_per_minute=7, max_outstanding=10_000), clock)
    admitted = 0
    for _ in range(1200):
        admitted += wait_s(limits) == 0
        clock.advance(0.1)

    assert 7 + 13 == admitted  # the fourteenth refill is there just after the end


def test_tokens_count_the_prompt_at_once_and_the_completion_when_it_ended(clock):
    """A bucket is overdrawn by what was not known before, and that is made up for."""
    limits = RateLimiter(RateLimitsConfig(tokens_per_minute=600), clock)
    enter(limits, prompt_tokens=100)
    leave(limits, completion_tokens=800)  # 300 too many, at 10 a second

    assert pytest.approx(30.1, abs=1e-3) == wait_s(limits)
    clock.advance(30.1)
    assert 0 == wait_s(limits)


def test_a_prompt_longer_than_the_minute_is_let_in_and_paid_off(clock):
    """Nobody is locked out for ever: what is too much for one minute takes several."""
    limits = RateLimiter(RateLimitsConfig(tokens_per_minute=60), clock)
    enter(limits, prompt_tokens=180)

    assert pytest.approx(121, abs=1e-3) == wait_s(limits)


def test_refused_requests_cost_nothing(clock):
    """Asking again and again does not put off the moment of being let in."""
    limits = RateLimiter(RateLimitsConfig(requests_per_minute=1), clock)
    enter(limits)
    for _ in range(100):
        wait_s(limits)

    assert pytest.approx(60, abs=1e-3) == wait_s(limits)


def test_who_rests_is_forgotten(clock):
    """Ten thousand accounts that have come and gone leave no trace but the last few."""
    limits = RateLimiter(RateLimitsConfig(requests_per_minute=60), clock)
    for account_id in range(10_000):
        enter(limits, account_id)
        leave(limits, account_id)
        clock.advance(1)

    assert len(limits) < 10


def test_who_owes_is_remembered(clock):
    """An overdrawn account is not forgotten with its debt, however many others come."""
    limits = RateLimiter(RateLimitsConfig(tokens_per_minute=60), clock)
    enter(limits, prompt_tokens=10_000)
    leave(limits)
    for account_id in range(100, 200):
        enter(limits, account_id)
        leave(limits, account_id)
        clock.advance(1)

    assert 0 < wait_s(limits)
