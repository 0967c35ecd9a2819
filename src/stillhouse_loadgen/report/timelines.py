"""Computes the time series of a run: requests in flight, answers and tokens per second."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from stillhouse_loadgen.record import RequestRecord

Numbers = npt.NDArray[np.float64]


def in_flight(records: Sequence[RequestRecord]) -> tuple[Numbers, Numbers]:
    """Returns the times (s) at which the number of requests in flight changed, and its values."""
    sent = [r for r in records if r.sent_s is not None and r.end_s is not None]
    moments_s = np.array([r.sent_s for r in sent] + [r.end_s for r in sent], dtype=np.float64)
    changes = np.concatenate([np.ones(len(sent)), -np.ones(len(sent))])
    order = np.argsort(moments_s, kind="stable")
    return moments_s[order], np.cumsum(changes[order])


def per_second(moments_s: Sequence[float], weights: Sequence[float], end_s: float) -> Numbers:
    """Returns the sum of *weights* in each second from 0 to *end_s*."""
    num_seconds = max(1, int(np.ceil(end_s)))
    found, _ = np.histogram(moments_s, bins=num_seconds, range=(0, num_seconds), weights=weights)
    return np.asarray(found, dtype=np.float64)


def token_moments(records: Sequence[RequestRecord]) -> tuple[list[float], list[float]]:
    """
    Returns the times (s) at which tokens arrived, and their numbers.

    The number is the server's count, spread evenly over the chunks with text.
    """
    moments_s: list[float] = []
    weights: list[float] = []
    for record in records:
        if record.first_token_s is None or not record.completion_tokens:
            continue
        at_s = record.first_token_s
        per_chunk = record.completion_tokens / (len(record.gaps_s) + 1)
        moments_s.append(at_s)
        for gap_s in record.gaps_s:
            at_s += gap_s
            moments_s.append(at_s)
        weights += [per_chunk] * (len(record.gaps_s) + 1)
    return moments_s, weights
