"""When the tokens of a batch of streams came, and what follows from it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Stream:
    """
    One answer as its client saw it.

    Args:
        arrivals: Seconds since the whole batch was sent, and how many tokens came then; a text
            that stands for several tokens may make a number broken.
        first_tokens: The first token ids, where the contender tells them.

    """

    arrivals: tuple[tuple[float, float], ...]
    first_tokens: tuple[int, ...] = ()

    @property
    def first_s(self) -> float:
        """When the first token came."""
        return self.arrivals[0][0]

    @property
    def last_s(self) -> float:
        """When the last token came."""
        return self.arrivals[-1][0]

    @property
    def num_tokens(self) -> float:
        """How many tokens came."""
        return sum(number for _, number in self.arrivals)


@dataclass(frozen=True, slots=True)
class Figures:
    """
    What is kept of a batch.

    Args:
        decode: Tokens per second of all streams together, while all of them run.
        total: New tokens per second from the sending to the last token.
        first_token_s: Median over the streams.

    """

    decode: float
    total: float
    first_token_s: float


def figures(streams: Sequence[Stream]) -> Figures:
    """Return what is kept of a batch."""
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
    summed, so that no half step at an edge counts. 0 where there is nothing to count.
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
