"""A bucket lets through a burst and then a rate, and no more."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stillhouse.fairness.token_bucket import TokenBucket

PAUSES_S = st.lists(st.floats(0, 5), min_size=1, max_size=40)


@given(PAUSES_S, st.integers(1, 20), st.floats(0.1, 10))
def test_never_more_than_burst_and_rate(pauses_s, burst, per_s):
    """Of requests that come whenever they like, a bucket admits its burst and what has refilled."""
    bucket, now_s, num_admitted = TokenBucket(per_s, burst), 0.0, 0
    for pause_s in pauses_s:
        now_s += pause_s
        if not bucket.wait_s(now_s):
            bucket.take(1, now_s)
            num_admitted += 1
        assert num_admitted <= burst + per_s * now_s + 0.1  # a clock's step for each second


@given(PAUSES_S, st.integers(1, 20), st.floats(0.1, 10))
def test_a_wait_is_as_long_as_it_says(pauses_s, burst, per_s):
    """Whoever waits for as long as the bucket says is admitted then, and not before."""
    bucket, now_s = TokenBucket(per_s, burst), 0.0
    for pause_s in pauses_s:
        now_s += pause_s
        if wait_s := bucket.wait_s(now_s):
            assert 0 < bucket.wait_s(now_s + wait_s - 0.01) or wait_s <= 0.02
            now_s += wait_s
        assert 0 == bucket.wait_s(now_s)
        bucket.take(1, now_s)


def test_more_than_a_burst_waits_for_the_rest():
    """What is larger than a full bucket waits until the rate has made up for the difference."""
    assert 3.0 == TokenBucket(2.0, 10).wait_s(100.0, 16)


def test_what_is_given_back_can_be_taken_again():
    """Giving back what was not needed leaves the bucket as it was."""
    bucket = TokenBucket.per_minute(60)
    bucket.take(60, 5.0)
    assert 1.0 == bucket.wait_s(5.0)
    bucket.refund(60)
    assert 0 == bucket.wait_s(5.0)
    assert bucket.is_full(5.0)
