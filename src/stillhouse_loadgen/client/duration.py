"""Parses durations as an option spells them: 250ms, 30s, 5m."""

from __future__ import annotations

import math
import re

from stillhouse_loadgen.errors import ArgumentError

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")


def parse_duration(text: str, *, option: str) -> float:
    """
    Returns the duration in seconds.

    Raises:
        ArgumentError: *text* is not a duration above zero; the message names *option*.

    """
    match = _DURATION.fullmatch(text.strip())
    duration_s = float(match[1]) * _UNITS_S[match[2]] if match else 0.0
    if not 0 < duration_s < math.inf:
        raise ArgumentError(f"{option}: '{text}' is not a duration; write 250ms, 30s, 5m or 1h")
    return duration_s
