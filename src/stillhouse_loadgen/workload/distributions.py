"""The distributions of lengths and pauses: constant, uniform, lognormal or exponential."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from stillhouse_loadgen.errors import ArgumentError

_NUMBER = r"(\d+(?:\.\d+)?)"
_CONSTANT = re.compile(_NUMBER)
_UNIFORM = re.compile(rf"uniform:{_NUMBER}-{_NUMBER}")
_LOGNORMAL = re.compile(rf"lognormal:{_NUMBER},{_NUMBER}")
_EXPONENTIAL = re.compile(rf"exponential:{_NUMBER}")
_EXAMPLES = "256, uniform:64-512, lognormal:256,200 (mean, standard deviation) or exponential:256"


class Distribution(Protocol):
    """A distribution of amounts; none is below zero."""

    def draw(self, rng: np.random.Generator) -> float:
        """Returns a random amount."""
        ...


@dataclass(frozen=True, slots=True)
class Constant:
    """The same amount every time."""

    amount: float

    def draw(self, rng: np.random.Generator) -> float:  # noqa: ARG002  (the protocol's)
        """Returns the amount."""
        return self.amount


@dataclass(frozen=True, slots=True)
class Uniform:
    """Every amount between two bounds with equal probability."""

    low: float
    high: float

    def draw(self, rng: np.random.Generator) -> float:
        """Returns an amount from *low* to *high*."""
        return float(rng.uniform(self.low, self.high))


@dataclass(frozen=True, slots=True)
class Lognormal:
    """Many small amounts and a few large ones, like the lengths of real prompts and answers."""

    mean: float
    deviation: float

    def draw(self, rng: np.random.Generator) -> float:
        """Returns an amount; mean and standard deviation are those given."""
        variance = math.log1p((self.deviation / self.mean) ** 2)
        return float(rng.lognormal(math.log(self.mean) - variance / 2, math.sqrt(variance)))


@dataclass(frozen=True, slots=True)
class Exponential:
    """The pauses between independent events."""

    mean: float

    def draw(self, rng: np.random.Generator) -> float:
        """Returns an amount; the mean is the one given."""
        return float(rng.exponential(self.mean))


def parse_distribution(text: str, *, option: str) -> Distribution:
    """
    Returns the distribution that *text* describes.

    Raises:
        ArgumentError: The text has another form; the message names *option*.

    """
    distribution = _parsed(text.strip())
    if distribution is None:
        raise ArgumentError(f"{option}: '{text}' is not a distribution; write {_EXAMPLES}")
    return distribution


def _parsed(text: str) -> Distribution | None:
    if match := _CONSTANT.fullmatch(text):
        return Constant(float(match[1]))
    if match := _EXPONENTIAL.fullmatch(text):
        return Exponential(float(match[1]))
    if match := _UNIFORM.fullmatch(text):
        low, high = float(match[1]), float(match[2])
        return Uniform(low, high) if low <= high else None
    if match := _LOGNORMAL.fullmatch(text):
        mean, deviation = float(match[1]), float(match[2])
        return Lognormal(mean, deviation) if mean > 0 else None
    return None
