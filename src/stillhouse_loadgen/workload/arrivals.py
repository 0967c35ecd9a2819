"""When requests come in, whatever the server does: the clock of an open loop."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

import numpy as np


class Arrivals(StrEnum):
    """How requests are spread over time."""

    #: Independent of each other, as from many people: exponential gaps.
    POISSON = "poisson"
    #: One every so often.
    CONSTANT = "constant"


def arrival_times(arrivals: Arrivals, rate: float, rng: np.random.Generator) -> Iterator[float]:
    """
    Yield seconds from the start of the run, without end and never falling.

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
        yield number / rate  # and no sum, whose rounding would drift
        number += 1


def _poisson(rate: float, rng: np.random.Generator) -> Iterator[float]:
    at_s = 0.0
    while True:
        at_s += float(rng.exponential(1 / rate))
        yield at_s
