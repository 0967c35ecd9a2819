"""Predicts the duration of a step by its number of tokens, measured while the engine runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

RECENT_SHARE = 0.25  # of a new duration in its bucket's average
KEPT_PER_STEP = 0.98  # of a bucket's weight with each step that falls into another
SMALLEST_WEIGHT = 1e-9  # of what was seen long ago, or all of the old would weigh nothing


class StepTimes:
    """
    Averages the recent durations of this model's steps on this machine.

    Buckets are a quarter of an octave wide, and a power of two is the last of its bucket: matrix
    products come in tiles, so that one token more than a power of two may take half as long again.
    Where a larger step was faster than a smaller one, both count as their mean, the recent more
    than the old: what is predicted never falls as a step grows. Where it took longer for each token
    than a smaller one has since, it counts less with every step: otherwise a size measured in a
    busy moment would never be tried again. Between buckets the duration is interpolated. Below the
    smallest step seen it is that step's duration, and above the largest it grows in proportion;
    both overestimate rather than underestimate.

    Source:
        Pool adjacent violators: Ayer et al., Annals of Mathematical Statistics 26 (1955).

    """

    def __init__(self) -> None:
        self._buckets: dict[int, _Point] = {}
        self._num_steps = 0
        self._curve: list[_Point] | None = []

    def observe(self, num_tokens: int, duration_s: float) -> None:
        """Records a step of *num_tokens*, at least 1, that took *duration_s*."""
        self._num_steps += 1
        bucket = _bucket(num_tokens)
        known = self._buckets.get(bucket)
        new = _Point(num_tokens, duration_s, self._num_steps)
        self._buckets[bucket] = new if known is None else known.moved_to(new)
        self._curve = None

    def predict_s(self, num_tokens: int) -> float | None:
        """Returns how long a step of *num_tokens*, at least 1, takes; None before the first."""
        below = None
        for point in self._monotone_curve():
            if point.num_tokens >= num_tokens:
                return point.duration_s if below is None else _between(below, point, num_tokens)
            below = point
        return None if below is None else below.duration_s * num_tokens / below.num_tokens

    def most_tokens_within(self, duration_s: float, most: int) -> int | None:
        """Returns the most tokens, up to *most*, of a step no longer than *duration_s*."""
        if not self._buckets:
            return None
        low, high = 0, most
        while low < high:
            middle = (low + high + 1) // 2
            predicted_s = self.predict_s(middle)
            if predicted_s is not None and predicted_s <= duration_s:
                low = middle
            else:
                high = middle - 1
        return low

    def _monotone_curve(self) -> list[_Point]:
        """Returns a point for each bucket, tokens rising and durations not falling."""
        if self._curve is None:
            points = [self._buckets[bucket] for bucket in sorted(self._buckets)]
            durations_s = _not_falling(
                _in_proportion(points),
                [max(SMALLEST_WEIGHT, self._weight(point)) for point in points],
            )
            self._curve = [
                _Point(point.num_tokens, duration_s, point.at_step)
                for point, duration_s in zip(points, durations_s, strict=True)
            ]
        return self._curve

    def _weight(self, point: _Point) -> float:
        return KEPT_PER_STEP ** (self._num_steps - point.at_step)


@dataclass(frozen=True, slots=True)
class _Point:
    """
    The average step of a bucket.

    Args:
        at_step: When the last one was seen.

    """

    num_tokens: float
    duration_s: float
    at_step: int

    def moved_to(self, new: Self) -> _Point:
        """Returns the average updated with *new*."""
        return _Point(
            self.num_tokens + RECENT_SHARE * (new.num_tokens - self.num_tokens),
            self.duration_s + RECENT_SHARE * (new.duration_s - self.duration_s),
            new.at_step,
        )


def _bucket(num_tokens: int) -> int:
    """Number the buckets: 1 to 8 tokens, then four to each doubling, which ends the last one."""
    place = num_tokens - 1
    shift = max(0, place.bit_length() - 3)
    return 4 * shift + (place >> shift)


def _between(below: _Point, above: _Point, num_tokens: int) -> float:
    share = (num_tokens - below.num_tokens) / (above.num_tokens - below.num_tokens)
    return below.duration_s + share * (above.duration_s - below.duration_s)


def _in_proportion(points: list[_Point]) -> list[float]:
    """Returns durations of which the old ones are hardly longer than smaller steps allow since."""
    durations_s = []
    # Seconds per token and date; none is beaten in both by another one.
    witnesses: list[tuple[float, int]] = []
    for point in points:
        duration_s = point.duration_s
        for pace_s, at_step in witnesses:
            bound_s = pace_s * point.num_tokens
            if bound_s < duration_s and at_step > point.at_step:
                kept = KEPT_PER_STEP ** (at_step - point.at_step)
                duration_s = min(duration_s, bound_s + kept * (point.duration_s - bound_s))
        durations_s.append(duration_s)
        own_pace_s = point.duration_s / point.num_tokens
        witnesses = [w for w in witnesses if w[0] < own_pace_s or w[1] > point.at_step]
        witnesses.append((own_pace_s, point.at_step))
    return durations_s


def _not_falling(values: list[float], weights: list[float]) -> list[float]:
    """Returns the sequence nearest to *values*, by weighted squares, that never falls."""
    pools: list[tuple[float, float, int]] = []  # mean, weight, number of values
    for value, weight in zip(values, weights, strict=True):
        pool = (value, weight, 1)
        while pools and pools[-1][0] > pool[0]:
            pool = _merged(pools.pop(), pool)
        pools.append(pool)
    return [mean for mean, _, size in pools for _ in range(size)]


def _merged(
    one: tuple[float, float, int], other: tuple[float, float, int]
) -> tuple[float, float, int]:
    weight = one[1] + other[1]
    mean = (one[0] * one[1] + other[0] * other[1]) / weight
    return mean, weight, one[2] + other[2]
