"""Spans of time as people write them for a benchmark: 250ms, 30s, 5m."""

from __future__ import annotations

import math
import re

from stillhouse.errors import ConfigError

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_SPAN = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")


def parse_span(text: str, *, option: str) -> float:
    """
    A span in seconds.

    Raises:
        ConfigError: *text* is no span above zero; the message names *option*.

    """
    match = _SPAN.fullmatch(text.strip())
    span_s = float(match[1]) * _UNITS_S[match[2]] if match else 0.0
    if not 0 < span_s < math.inf:
        raise ConfigError(f"{option}: '{text}' is no span of time; write 250ms, 30s, 5m or 1h")
    return span_s
