"""Tabulates a benchmark's figures, the same for the terminal and the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stillhouse_loadgen.report.document import Document, LoadShape, Run
from stillhouse_loadgen.report.summary import Latencies, Summary

_NONE = "–"


@dataclass(frozen=True, slots=True)
class Grid:
    """A table whose rows are a name and numbers."""

    title: str
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


def grids(document: Document) -> list[Grid]:
    """Returns every table of a benchmark, the sweep last."""
    found = [grid for run in document.runs for grid in run_grids(run)]
    return [*found, sweep_grid(document)] if len(document.runs) > 1 else found


def run_grids(run: Run) -> list[Grid]:
    """Returns the tables of one run."""
    title = f"{run.load}{', interrupted' if run.is_interrupted else ''}"
    found = [_facts(title, run), _latencies(run.summary)]
    if run.summary.failures:
        found.append(_failures(run.summary))
    if run.summary.by_key:
        found.append(_keys(run.summary))
    return found


def sweep_grid(document: Document) -> Grid:
    """Returns a table with one row per run."""
    header = (
        level_name(document.runs[0].load),
        "done/s",
        "tok/s",
        "TTFT p50 ms",
        "p99",
        "ITL p99",
        "failed",
        "goodput",
    )
    return Grid("sweep", header, [_sweep_row(run) for run in document.runs])


def level_name(load: LoadShape) -> str:
    """Returns the name of the value that a sweep varies."""
    if load.rate is not None:
        return "arrivals/s"
    return "speed" if load.concurrency is None else "at once"


def _sweep_row(run: Run) -> tuple[str, ...]:
    summary = run.summary
    return (
        f"{run.load.level:g}",
        f"{summary.completed_per_second:.2f}",
        f"{summary.output_tokens_per_second:.1f}",
        milliseconds(summary.ttft.p50),
        milliseconds(summary.ttft.p99),
        milliseconds(summary.itl.p99),
        str(summary.num_requests - summary.num_completed),
        _share_of(summary),
    )


def _facts(title: str, run: Run) -> Grid:
    summary = run.summary
    rows = [
        ("requests due", str(summary.num_requests)),
        ("whole answers", str(summary.num_completed)),
        ("offered requests/s", f"{summary.offered_per_second:.2f}"),
        ("answered requests/s", f"{summary.completed_per_second:.2f}"),
        ("output tokens/s", f"{summary.output_tokens_per_second:.1f}"),
        ("prompt tokens", _prompt_tokens(summary)),
        ("output tokens", str(summary.completion_tokens)),
        ("duration s", f"{summary.duration_s:.1f}"),
        ("finish reasons", ", ".join(f"{k} {n}" for k, n in summary.finish_reasons.items())),
    ]
    if summary.cost_usd is not None:
        rows.append(("cost", f"${summary.cost_usd:.6f}"))
    if summary.goodput is not None:
        targets = ", ".join(f"{t.measure} ≤ {t.at_most_s:g} s" for t in summary.goodput.targets)
        rate = f"{_share_of(summary)}, {summary.goodput.per_second:.2f}/s"
        rows.append((f"goodput ({targets})", rate))
    rows += _warnings(run)
    return Grid(title, ("", ""), rows)


def _warnings(run: Run) -> list[tuple[str, str]]:
    summary = run.summary
    counts = {
        "sent late by this client": summary.num_late,
        "not sent by this client": summary.num_not_sent,
        "without usage": summary.num_without_usage,
        "turns given up": run.num_given_up,
    }
    return [(name, str(count)) for name, count in counts.items() if count]


def _prompt_tokens(summary: Summary) -> str:
    if not summary.prompt_tokens:
        return "0"
    share = summary.cached_tokens / summary.prompt_tokens
    return f"{summary.prompt_tokens} ({share:.1%} cached)"


def _latencies(summary: Summary) -> Grid:
    rows = {
        "time to first token": summary.ttft,
        "inter-token latency": summary.itl,
        "time per output token": summary.tpot,
        "end to end": summary.e2e,
        "sent after it was due": summary.send_delay,
    }
    header = ("ms", "mean", "p50", "p90", "p95", "p99", "max")
    return Grid("", header, [(name, *_cells(found)) for name, found in rows.items()])


def _cells(found: Latencies) -> tuple[str, ...]:
    values = (found.mean, found.p50, found.p90, found.p95, found.p99, found.max)
    return tuple(milliseconds(value) for value in values)


def _failures(summary: Summary) -> Grid:
    header = ("failures", "count", "Retry-After", "p50 ms", "p99 ms", "first message")
    rows = [
        (
            kind,
            str(failure.count),
            str(failure.num_with_retry_after),
            milliseconds(failure.latency.p50),
            milliseconds(failure.latency.p99),
            failure.message or "",
        )
        for kind, failure in summary.failures.items()
    ]
    return Grid("", header, rows)


def _keys(summary: Summary) -> Grid:
    header = ("key", "due", "done/s", "tok/s", "TTFT p50 ms", "p95", "p99", "failed", "goodput")
    rows = [
        (
            key,
            str(own.num_requests),
            f"{own.completed_per_second:.2f}",
            f"{own.output_tokens_per_second:.1f}",
            milliseconds(own.ttft.p50),
            milliseconds(own.ttft.p95),
            milliseconds(own.ttft.p99),
            str(own.num_requests - own.num_completed),
            _share_of(own),
        )
        for key, own in summary.by_key.items()
    ]
    return Grid("", header, rows)


def _share_of(summary: Summary) -> str:
    return _NONE if summary.goodput is None else f"{summary.goodput.share:.1%}"


def milliseconds(value_s: float | None) -> str:
    """Returns seconds as milliseconds; a dash for None."""
    return _NONE if value_s is None else f"{value_s * 1000:.1f}"
