"""Parses the options of `stillhouse bench` into a plan."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from stillhouse_loadgen.benchmark import Plan
from stillhouse_loadgen.client.chat_client import Target
from stillhouse_loadgen.client.duration import parse_duration
from stillhouse_loadgen.client.load_key import KeyRing, LoadKey, parse_keys, read_keys
from stillhouse_loadgen.errors import ArgumentError
from stillhouse_loadgen.report.document import LoadShape
from stillhouse_loadgen.report.goodput import parse_targets
from stillhouse_loadgen.workload.arrivals import Arrivals
from stillhouse_loadgen.workload.distributions import parse_distribution
from stillhouse_loadgen.workload.mooncake import TraceRequest, read_trace
from stillhouse_loadgen.workload.workload import Extent, SyntheticShape

_DEFAULT_REQUESTS = 100
_NO_KEY = LoadKey("no key", "")
#: Fields that the load sets itself.
_RESERVED = ("model", "messages", "max_tokens", "stream", "stream_options", "n")
_MAX_CONCURRENCY = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    """The options as text; stillhouse's `cli/bench.py` explains each one."""

    url: str
    model: str
    key: list[str]
    keys_file: Path | None
    rate: str | None
    arrivals: str
    concurrency: str | None
    trace: Path | None
    speed: str | None
    requests: int | None
    duration: str | None
    warmup: str | None
    input_tokens: str
    output_tokens: str
    turns: str
    think: str
    prefixes: int
    prefix_length: int
    prefix_share: float
    goodput: list[str]
    extra: str
    timeout: str
    max_in_flight: int
    tokens_per_word: float | None
    seed: int

    def plan(self) -> Plan:
        """
        Returns the plan.

        Raises:
            ArgumentError: A value is wrong, or two options exclude each other.

        """
        warmup_s = parse_duration(self.warmup, option="--warmup") if self.warmup else 0.0
        if self.tokens_per_word is not None and not 0 < self.tokens_per_word < math.inf:
            raise ArgumentError(f"--tokens-per-word is {self.tokens_per_word}; it must be above 0")
        return Plan(
            target=self._target(),
            keys=self._keys(),
            content=self._content(),
            loads=self._loads(),
            extent=self._extent(warmup_s),
            warmup_s=warmup_s,
            max_in_flight=self.max_in_flight,
            seed=self.seed,
            targets=parse_targets(self.goodput),
            tokens_per_word=self.tokens_per_word,
        )

    def _target(self) -> Target:
        try:
            extra = msgspec.json.decode(self.extra, type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise ArgumentError(f"--extra: is not a JSON object: {error}") from error
        if reserved := [name for name in _RESERVED if name in extra]:
            raise ArgumentError(f"--extra: {reserved[0]!r} is set by the load itself")
        timeout_s = parse_duration(self.timeout, option="--timeout")
        return Target(self.url, self.model, extra, timeout_s)

    def _keys(self) -> KeyRing:
        if self.keys_file is not None:
            return KeyRing(read_keys(self.keys_file))
        return KeyRing(parse_keys(self.key) or [_NO_KEY])

    def _content(self) -> SyntheticShape | list[TraceRequest]:
        if self.trace is not None:
            return read_trace(self.trace)
        return SyntheticShape(
            input_tokens=parse_distribution(self.input_tokens, option="--input"),
            output_tokens=parse_distribution(self.output_tokens, option="--output"),
            turns=parse_distribution(self.turns, option="--turns"),
            think_s=parse_distribution(self.think, option="--think"),
            num_prefixes=self.prefixes,
            prefix_tokens=self.prefix_length,
            prefix_share=self.prefix_share,
        )

    def _loads(self) -> tuple[LoadShape, ...]:
        chosen = {"--rate": self.rate, "--concurrency": self.concurrency, "--trace": self.trace}
        names = [name for name, value in chosen.items() if value is not None]
        if len(names) != 1:
            given = " and ".join(names) or "none"
            raise ArgumentError(f"give one of --rate, --concurrency and --trace, not {given}")
        if self.speed is not None and self.trace is None:
            raise ArgumentError("--speed is a trace's; give --trace, or --rate alone")
        if self.rate is not None:
            return self._open_loads(self.rate)
        if self.concurrency is not None:
            return _closed_loads(self.concurrency)
        return tuple(LoadShape(speed=speed) for speed in _levels(self.speed or "1", "--speed"))

    def _open_loads(self, rates: str) -> tuple[LoadShape, ...]:
        if self.arrivals not in set(Arrivals):
            known = ", ".join(Arrivals)
            raise ArgumentError(f"--arrivals: '{self.arrivals}' is none of {known}")
        return tuple(
            LoadShape(rate=rate, arrivals=self.arrivals) for rate in _levels(rates, "--rate")
        )

    def _extent(self, warmup_s: float) -> Extent:
        duration_s = parse_duration(self.duration, option="--duration") if self.duration else None
        if duration_s is not None and warmup_s >= duration_s:
            raise ArgumentError(
                f"--warmup is {warmup_s:g} s of {duration_s:g} s; nothing would be counted"
            )
        has_end = self.requests is not None or duration_s is not None or self.trace is not None
        return Extent(self.requests if has_end else _DEFAULT_REQUESTS, duration_s)


def _closed_loads(text: str) -> tuple[LoadShape, ...]:
    levels = _levels(text, "--concurrency")
    for level in levels:
        if level != int(level) or level > _MAX_CONCURRENCY:
            raise ArgumentError(
                f"--concurrency: {level:g} is no whole number from 1 to {_MAX_CONCURRENCY}"
            )
    return tuple(LoadShape(concurrency=int(level)) for level in levels)


def _levels(text: str, option: str) -> list[float]:
    """Returns the numbers between commas: one, or a sweep."""
    try:
        levels = [float(part) for part in text.split(",")]
    except ValueError:
        levels = []
    if not levels or not all(0 < level < math.inf for level in levels):
        raise ArgumentError(
            f"{option}: '{text}' is not a list of numbers above 0; write 4 or 1,2,4"
        )
    return levels
