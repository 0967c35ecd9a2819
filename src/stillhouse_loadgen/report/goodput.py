"""Goodput: what part of the requests was answered as fast as promised."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from stillhouse.errors import ConfigError
from stillhouse_loadgen.client.spans import parse_span
from stillhouse_loadgen.record import RequestRecord

#: What a target can bind, and the attribute of a record that it is measured by.
MEASURES = {
    "ttft": "ttft_s",
    "itl": "itl_s",
    "max_itl": "max_itl_s",
    "tpot": "tpot_s",
    "e2e": "e2e_s",
}


class GoodputTarget(msgspec.Struct, frozen=True):
    """The most that one latency of a request may be."""

    measure: str
    at_most_s: float


def parse_targets(texts: Sequence[str]) -> tuple[GoodputTarget, ...]:
    """
    Targets such as ``ttft:2s`` or ``ttft:2s,itl:100ms``.

    Raises:
        ConfigError: One is not of this form, or names nothing that is measured.

    """
    return tuple(_target(part) for text in texts for part in text.replace(",", " ").split())


def is_good(record: RequestRecord, targets: Sequence[GoodputTarget]) -> bool:
    """
    Whether a whole answer came, and within every target.

    An answer too short to have a latency, such as one token's gaps, is not late by it.
    """
    return record.is_whole and all(_meets(record, target) for target in targets)


def _meets(record: RequestRecord, target: GoodputTarget) -> bool:
    latency_s = getattr(record, MEASURES[target.measure])
    return latency_s is None or latency_s <= target.at_most_s


def _target(text: str) -> GoodputTarget:
    measure, colon, span = text.partition(":")
    if not colon or measure not in MEASURES:
        raise ConfigError(
            f"--goodput: '{text}' is no target; write ttft:2s, with one of {', '.join(MEASURES)}"
        )
    return GoodputTarget(measure, parse_span(span, option=f"--goodput {measure}"))
