"""How lengths and pauses are spread: always the same, uniform, lognormal or exponential."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from stillhouse.errors import ConfigError

_NUMBER = r"(\d+(?:\.\d+)?)"
_CONSTANT = re.compile(_NUMBER)
_UNIFORM = re.compile(rf"uniform:{_NUMBER}-{_NUMBER}")
_LOGNORMAL = re.compile(rf"lognormal:{_NUMBER},{_NUMBER}")
_EXPONENTIAL = re.compile(rf"exponential:{_NUMBER}")
_EXAMPLES = "256, uniform:64-512, lognormal:256,200 (mean, standard deviation) or exponential:256"


class Distribution(Protocol):
    """Where amounts are drawn from; none is below zero."""

    def draw(self, rng: np.random.Generator) -> float:
        """Return the next amount."""
        ...


@dataclass(frozen=True, slots=True)
class Constant:
    """Always the same."""

    amount: float

    def draw(self, rng: np.random.Generator) -> float:  # noqa: ARG002  (the protocol's)
        """Return the amount."""
        return self.amount


@dataclass(frozen=True, slots=True)
class Uniform:
    """Every amount between two is as likely as the others."""

    low: float
    high: float

    def draw(self, rng: np.random.Generator) -> float:
        """Return an amount from *low* to *high*."""
        return float(rng.uniform(self.low, self.high))


@dataclass(frozen=True, slots=True)
class Lognormal:
    """Many small amounts and a few large ones, as lengths of real prompts and answers are."""

    mean: float
    deviation: float

    def draw(self, rng: np.random.Generator) -> float:
        """Return an amount; over many, mean and standard deviation are as told."""
        variance = math.log1p((self.deviation / self.mean) ** 2)
        return float(rng.lognormal(math.log(self.mean) - variance / 2, math.sqrt(variance)))


@dataclass(frozen=True, slots=True)
class Exponential:
    """As pauses between independent events are."""

    mean: float

    def draw(self, rng: np.random.Generator) -> float:
        """Return an amount; over many, their mean is as told."""
        return float(rng.exponential(self.mean))


def parse_distribution(text: str, *, option: str) -> Distribution:
    """
    The distribution that *text* describes.

    Raises:
        ConfigError: It describes none; the message names *option*.

    """
    distribution = _parsed(text.strip())
    if distribution is None:
        raise ConfigError(f"{option}: '{text}' is no distribution; write {_EXAMPLES}")
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
