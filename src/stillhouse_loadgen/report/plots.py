"""Plots a benchmark's records, each plot as a self-contained SVG."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from stillhouse_loadgen.record import RequestRecord
from stillhouse_loadgen.report.document import Document, Run
from stillhouse_loadgen.report.tables import level_name
from stillhouse_loadgen.report.timelines import in_flight, per_second, token_moments

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text is kept as text, in the reader's own font
    "svg.hashsalt": "stillhouse",  # ids are reproducible
    "font.size": 9,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
_NO_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}
_CDF_POINTS = 400
_MAX_POINTS = 20_000
_LEAST_S = 1e-4


def cdf_plot(document: Document) -> str:
    """Plots the distributions of TTFT, ITL and end-to-end latency, with a line per run."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(10, 3), layout="constrained")
        axes = figure.subplots(1, 3, sharey=True)
        for run in document.runs:
            whole = _whole(run)
            _cdf(axes[0], [r.ttft_s for r in whole], str(run.load))
            _cdf(axes[1], [gap for r in whole for gap in r.gaps_s], str(run.load))
            _cdf(axes[2], [r.e2e_s for r in whole], str(run.load))
        names = ("time to first token", "inter-token latency", "end to end")
        for axis, name in zip(axes, names, strict=True):
            axis.set_xlabel(f"{name}, ms")
            _scale_by_decades(axis)
        axes[0].set_ylabel("share of requests (ITL: gaps)")
        lines, names_of_runs = axes[0].get_legend_handles_labels()
        if len(lines) > 1:
            figure.legend(lines, names_of_runs, loc="outside lower center", ncols=3, fontsize=7)
        return _svg(figure)


def latency_plot(run: Run) -> str:
    """Plots each request's latency over the time it was due; failures are red."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(10, 3), layout="constrained")
        axis = figure.subplots()
        records = _thinned(run.records)
        whole = [r for r in records if r.is_whole]
        _dots(axis, whole, [r.e2e_s for r in whole], "C0", "end to end")
        _dots(axis, whole, [r.ttft_s for r in whole], "C1", "first token")
        failed = [r for r in records if r.failure is not None]
        _dots(axis, failed, [r.e2e_s or 0.0 for r in failed], "C3", "until it failed")
        axis.set_xlabel("due, s")
        axis.set_ylabel("latency, s")
        axis.set_ylim(bottom=0)
        if axis.collections:
            axis.legend(fontsize=7)
        return _svg(figure)


def throughput_plot(run: Run) -> str:
    """Plots requests due and answered, tokens, and requests in flight, over time."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(10, 4.5), layout="constrained")
        requests, tokens, flight = figure.subplots(3, 1, sharex=True)
        whole = _whole(run)
        ends_s = [r.end_s for r in run.records if r.end_s is not None]
        end_s = max(ends_s, default=0.0)
        due_s = [r.intended_s for r in run.records]
        answered_s = [r.end_s for r in whole if r.end_s is not None]
        _steps(requests, due_s, [1.0] * len(due_s), end_s, "due")
        _steps(requests, answered_s, [1.0] * len(answered_s), end_s, "answered")
        requests.set_ylabel("requests/s")
        requests.legend(fontsize=7)
        _steps(tokens, *token_moments(run.records), end_s, "output tokens")
        tokens.set_ylabel("output tokens/s")
        moments_s, counts = in_flight(run.records)
        flight.step(moments_s, counts, where="post", linewidth=0.8)
        flight.set_ylabel("in flight")
        flight.set_xlabel("s")
        return _svg(figure)


def sweep_plot(document: Document) -> str:
    """Plots throughput and time to first token over the levels of a sweep."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(10, 3), layout="constrained")
        throughput, latency = figure.subplots(1, 2)
        runs = sorted(document.runs, key=lambda run: run.load.level)
        levels = [run.load.level for run in runs]
        done = [run.summary.completed_per_second for run in runs]
        throughput.plot(levels, done, marker="o", label="answered")
        if document.targets:
            good = [run.summary.goodput.per_second if run.summary.goodput else 0 for run in runs]
            throughput.plot(levels, good, marker="o", label="goodput")
        throughput.set_ylabel("requests/s")
        throughput.legend(fontsize=7)
        for name in ("p50", "p95", "p99"):
            values = [getattr(run.summary.ttft, name) for run in runs]
            points = [(x, y) for x, y in zip(levels, values, strict=True) if y is not None]
            latency.plot([x for x, _ in points], [y for _, y in points], marker="o", label=name)
        latency.set_ylabel("time to first token, s")
        latency.legend(fontsize=7)
        for axis in (throughput, latency):
            axis.set_ylim(bottom=0)
            axis.set_xlabel(level_name(runs[0].load))
        return _svg(figure)


def _whole(run: Run) -> list[RequestRecord]:
    return [r for r in run.records if r.is_whole and not r.is_warmup]


def _scale_by_decades(axis: Axes) -> None:
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())


def _thinned(records: Sequence[RequestRecord]) -> Sequence[RequestRecord]:
    return records[:: -(-len(records) // _MAX_POINTS) or 1]


def _cdf(axis: Axes, values_s: Iterable[float | None], label: str) -> None:
    values = np.array([value for value in values_s if value is not None], dtype=np.float64)
    if values.size:
        shares = np.linspace(0, 1, min(_CDF_POINTS, int(values.size)) + 1)
        # The axis is logarithmic, and two chunks in one packet have a gap of zero.
        found = np.maximum(np.quantile(values, shares), _LEAST_S)
        axis.plot(1000 * found, shares, linewidth=1, label=label)


def _dots(
    axis: Axes,
    records: Sequence[RequestRecord],
    values: Sequence[float | None],
    color: str,
    label: str,
) -> None:
    known = [
        (record.intended_s, value)
        for record, value in zip(records, values, strict=True)
        if value is not None
    ]
    if not known:
        return
    axis.scatter(
        [x for x, _ in known],
        [y for _, y in known],
        s=4,
        color=color,
        label=label,
        rasterized=True,
    )


def _steps(
    axis: Axes, moments_s: Sequence[float], weights: Sequence[float], end_s: float, label: str
) -> None:
    found = per_second(moments_s, weights, end_s)
    axis.stairs(found, np.arange(len(found) + 1), label=label)


def _svg(figure: Figure) -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata=_NO_METADATA)
    # The XML declaration and DTD before it do not belong into HTML.
    return text.getvalue()[text.getvalue().index("<svg") :]
