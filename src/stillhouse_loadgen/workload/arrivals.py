"""Generates the arrival times of an open loop, which do not depend on the server."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

import numpy as np


class Arrivals(StrEnum):
    """The arrival process."""

    #: Independent arrivals, as from many users: exponential gaps.
    POISSON = "poisson"
    #: Equal gaps.
    CONSTANT = "constant"


def arrival_times(arrivals: Arrivals, rate: float, rng: np.random.Generator) -> Iterator[float]:
    """
    Yields seconds from the start of the run, endless and never decreasing.

    Args:
        rate: Requests per second, on average.

    """
    if arrivals is Arrivals.CONSTANT:
        yield from _constant(rate)
    else:
        yield from _poisson(rate, rng)


def _constant(rate: float) -> Iterator[float]:
    number = 0
    while True:
        yield number / rate  # not a sum, whose rounding errors would accumulate
        number += 1


def _poisson(rate: float, rng: np.random.Generator) -> Iterator[float]:
    at_s = 0.0
    while True:
        at_s += float(rng.exponential(1 / rate))
        yield at_s
