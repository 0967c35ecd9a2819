"""The JSON document of a benchmark: its command, environment, and every record."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import msgspec

from stillhouse_loadgen.record import SCHEMA, RequestRecord
from stillhouse_loadgen.report.goodput import GoodputTarget
from stillhouse_loadgen.report.summary import Summary

_CPU_INFO = Path("/proc/cpuinfo")
_HIDDEN = "***"


class LoadShape(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    The arrival process of a run: one of rate, concurrency and speed is set.

    Args:
        rate: Arrivals per second of an open loop: conversations, most often of one request.
        arrivals: The distribution of an open loop's arrivals: poisson or constant.
        concurrency: Conversations at once of a closed loop.
        speed: The factor by which a trace is replayed faster, as an open loop.

    """

    rate: float | None = None
    arrivals: str | None = None
    concurrency: int | None = None
    speed: float | None = None

    def __str__(self) -> str:
        """Returns a title for reports."""
        if self.rate is not None:
            return f"open loop, {self.arrivals}, {self.rate:g} arrivals/s"
        if self.concurrency is not None:
            return f"closed loop, {self.concurrency} at once"
        return f"open loop, trace at speed {self.speed:g}"

    @property
    def level(self) -> float:
        """The value that a sweep varies."""
        return self.rate or self.concurrency or self.speed or 0.0


class Run(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    One load and its results.

    Args:
        started_at: UTC, in ISO 8601.
        num_given_up: Turns that were never sent because an earlier one had failed.

    """

    load: LoadShape
    started_at: str
    is_interrupted: bool
    num_given_up: int
    summary: Summary
    records: list[RequestRecord]


class Environment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The machine and the programs that sent the load."""

    stillhouse: str
    python: str
    aiohttp: str
    system: str
    processor: str
    num_cpus: int


class Document(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    A benchmark, without its keys.

    Args:
        schema: The version of this format.
        tokens_per_word: The measured or given ratio of the server's tokenizer.

    """

    schema: str = SCHEMA
    command: list[str]
    environment: Environment
    url: str
    model: str
    seed: int
    tokens_per_word: float
    targets: tuple[GoodputTarget, ...]
    runs: list[Run]


def this_environment() -> Environment:
    """Returns the environment of this process."""
    return Environment(
        stillhouse=version("stillhouse"),
        python=platform.python_version(),
        aiohttp=version("aiohttp"),
        system=f"{platform.system()} {platform.release()}",
        processor=_processor(),
        num_cpus=len(os.sched_getaffinity(0)),
    )


def command_without(secrets: Iterable[str], arguments: Sequence[str] | None = None) -> list[str]:
    """Returns the command line with every secret redacted."""
    command = ["stillhouse", *(sys.argv[1:] if arguments is None else arguments)]
    for secret in filter(None, secrets):
        command = [part.replace(secret, _HIDDEN) for part in command]
    return command


def iso_time(now_ms: int) -> str:
    """Returns a moment as ISO 8601, in UTC."""
    return datetime.fromtimestamp(now_ms / 1000, UTC).isoformat(timespec="seconds")


def _processor() -> str:
    try:
        lines = _CPU_INFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or "unknown")
