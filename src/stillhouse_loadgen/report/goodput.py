"""Goodput: the share of requests that were answered within latency targets."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from stillhouse_loadgen.client.duration import parse_duration
from stillhouse_loadgen.errors import ArgumentError
from stillhouse_loadgen.record import RequestRecord

#: The names of latencies that a target can bound, and their attributes of a record.
MEASURES = {
    "ttft": "ttft_s",
    "itl": "itl_s",
    "max_itl": "max_itl_s",
    "tpot": "tpot_s",
    "e2e": "e2e_s",
}


class GoodputTarget(msgspec.Struct, frozen=True):
    """The upper bound of one latency of a request."""

    measure: str
    at_most_s: float


def parse_targets(texts: Sequence[str]) -> tuple[GoodputTarget, ...]:
    """
    Parses targets such as ``ttft:2s`` or ``ttft:2s,itl:100ms``.

    Raises:
        ArgumentError: A target has another form, or names an unknown latency.

    """
    return tuple(_target(part) for text in texts for part in text.replace(",", " ").split())


def is_good(record: RequestRecord, targets: Sequence[GoodputTarget]) -> bool:
    """
    Returns whether the answer is complete and within every target.

    A latency that an answer does not have, such as the gaps of a single token, misses no target.
    """
    return record.is_whole and all(_meets(record, target) for target in targets)


def _meets(record: RequestRecord, target: GoodputTarget) -> bool:
    latency_s = getattr(record, MEASURES[target.measure])
    return latency_s is None or latency_s <= target.at_most_s


def _target(text: str) -> GoodputTarget:
    measure, colon, span = text.partition(":")
    if not colon or measure not in MEASURES:
        raise ArgumentError(
            f"--goodput: '{text}' is no target; write ttft:2s, with one of {', '.join(MEASURES)}"
        )
    return GoodputTarget(measure, parse_duration(span, option=f"--goodput {measure}"))
