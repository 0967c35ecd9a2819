from __future__ import annotations

import pytest

from stillhouse.billing.outcome import UsageSource
from stillhouse.engines.base import GenerateRequest, GenerateStep
from stillhouse.serving.usage_meter import UsageMeter
from stillhouse.types.usage import TokenUsage


def count(*steps):
    counted = UsageMeter(GenerateRequest("a", [1] * 10, 100))
    for step in steps:
        counted.record_step(step)
    return counted


def step(num_tokens, *reported):
    return GenerateStep((5,) * num_tokens, TokenUsage(*reported))


def test_an_engine_that_counts_right_is_believed():
    """Its numbers, the cached tokens among them, are what was used."""
    counted = count(step(0, 10, 0, 0), step(2, 10, 4, 2), step(1, 10, 4, 3))

    assert TokenUsage(10, 4, 3) == counted.usage
    assert UsageSource.ENGINE is counted.source


@pytest.mark.parametrize(
    "reported",
    [
        (10, 4, -1),
        (10, 4, 0),
        (10, 4, 1),
        (10, 4, 3),
        (10, 4, 2**62),
        (9, 4, 2),
        (-10, 4, 2),
        (10, -1, 2),
        (10, 11, 2),
    ],
)
def test_an_engine_that_counts_wrong_once_is_not_believed_again(reported):
    """What came through is charged from then on; cached stays what it last rightly was."""
    counted = count(step(1, 10, 4, 1), step(1, *reported), step(1, 10, 10, 3))

    assert TokenUsage(10, 4, 3) == counted.usage
    assert UsageSource.GATEWAY_COUNT is counted.source


def test_nothing_is_taken_for_cached_on_a_wrong_word():
    """A first report that is wrong leaves the cached tokens at none."""
    assert TokenUsage(10, 0, 1) == count(step(1, 10, 12, 1)).usage


def test_going_back_forgets_what_came_since():
    """An earlier state can be charged instead, as the gateway's own count."""
    counted = count(step(1, 10, 4, 1))
    earlier = counted.usage
    counted.record_step(step(5, 10, 4, 6))
    counted.roll_back_to(earlier)

    assert (TokenUsage(10, 4, 1), UsageSource.GATEWAY_COUNT) == (counted.usage, counted.source)
