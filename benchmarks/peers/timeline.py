"""Computes rates and latencies from the token times of a batch of streams."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Stream:
    """
    The token times of one answer.

    Args:
        arrivals: Seconds since the whole batch was sent, and the number of tokens then; it is
            fractional where one text stands for several tokens.
        first_tokens: The first token ids, if the contender reports them.

    """

    arrivals: tuple[tuple[float, float], ...]
    first_tokens: tuple[int, ...] = ()

    @property
    def first_s(self) -> float:
        """The time of the first token."""
        return self.arrivals[0][0]

    @property
    def last_s(self) -> float:
        """The time of the last token."""
        return self.arrivals[-1][0]

    @property
    def num_tokens(self) -> float:
        """The number of tokens."""
        return sum(number for _, number in self.arrivals)


@dataclass(frozen=True, slots=True)
class Figures:
    """
    The figures of a batch.

    Args:
        decode: Tokens per second of all streams together, while all of them run.
        total: New tokens per second from sending to the last token.
        first_token_s: Median over the streams.

    """

    decode: float
    total: float
    first_token_s: float


def figures(streams: Sequence[Stream]) -> Figures:
    """Return the figures of a batch."""
    num_tokens = sum(stream.num_tokens for stream in streams)
    return Figures(
        decode=decode_rate(streams),
        total=num_tokens / max(stream.last_s for stream in streams),
        first_token_s=statistics.median(stream.first_s for stream in streams),
    )


def decode_rate(streams: Sequence[Stream]) -> float:
    """
    Return tokens per second between the last stream's first token and the first stream's end.

    Each stream's rate is taken between two of its own tokens in that time, and the rates are
    summed, so that partial steps do not count. The rate is 0 without two such tokens.
    """
    begin = max(stream.first_s for stream in streams)
    end = min(stream.last_s for stream in streams)
    rate = 0.0
    for stream in streams:
        inside = [(time_s, number) for time_s, number in stream.arrivals if begin <= time_s <= end]
        if len(inside) > 1:
            duration_s = inside[-1][0] - inside[0][0]
            rate += sum(number for _, number in inside[1:]) / duration_s
    return rate
