"""Plots the results of run.py as an SVG: ``python -m benchmarks.peers.plot OUTPUT``."""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from benchmarks.peers.report import ENGINE, ENGINES, GENAI, LLAMA, SERVICE, rates_of
from benchmarks.peers.results import Results

COLOURS = {SERVICE: "#b5442e", ENGINE: "#e3a08f", LLAMA: "#3f6f8f", GENAI: "#8a8a8a"}
LABELS = {
    SERVICE: "stillhouse, the whole service",
    ENGINE: "stillhouse, engine alone",
    LLAMA: "llama-server (Q8_0)",
    GENAI: "openvino-genai, engine alone",
}
STREAMS = (1, 4, 8, 16)
PREFILL_CASE = "prefill 1024"
SIZE_INCHES = (9.0, 3.0)


def main() -> None:
    """Plot decoding, greedy and sampled, over the number of streams, and the prompt's speed."""
    arguments = parse_arguments()
    results = Results.load(arguments.results)
    mpl.rcParams.update(
        {
            "svg.fonttype": "none",  # text is kept as text
            "svg.hashsalt": "stillhouse",  # the same figures give the same file
            "font.family": "sans-serif",
            "font.size": 9,
            "axes.titlesize": 9,
            "axes.spines.top": False,
            "axes.spines.right": False,
        }
    )
    figure, (greedy, sampled, prefill) = plt.subplots(
        1, 3, figsize=SIZE_INCHES, width_ratios=[3, 3, 2], layout="constrained"
    )
    draw_decoding(greedy, results, "greedy")
    draw_decoding(sampled, results, "sampled")
    sampled.sharey(greedy)
    draw_prefill(prefill, results)
    handles, labels = greedy.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(arguments.output, metadata={"Date": None})


def draw_decoding(axes: Axes, results: Results, kind: str) -> None:
    """Plot medians as lines, and minimum to maximum as bars."""
    for name in ENGINES:
        points = [(n, rates_of(results, f"{kind} {n}", name)) for n in STREAMS]
        known = [(n, rates) for n, rates in points if rates]
        if known:
            middle = [statistics.median(rates) for _, rates in known]
            below = [statistics.median(rates) - min(rates) for _, rates in known]
            above = [max(rates) - statistics.median(rates) for _, rates in known]
            axes.errorbar(
                [n for n, _ in known],
                middle,
                yerr=[below, above],
                color=COLOURS[name],
                label=LABELS[name],
                marker="o",
                markersize=4,
                linewidth=2 if name == SERVICE else 1.2,
            )
    axes.set_title(f"decoding, {kind}: tokens/s", loc="left")
    axes.set_xlabel("streams at once")
    axes.set_xticks(STREAMS)
    axes.set_ylim(bottom=0)
    axes.grid(axis="y", linewidth=0.4)


def draw_prefill(axes: Axes, results: Results) -> None:
    """Plot the speed of a prompt as bars."""
    measured = {name: rates_of(results, PREFILL_CASE, name) for name in ENGINES}
    names = [name for name in reversed(ENGINES) if measured[name]]
    middle = [statistics.median(measured[name]) for name in names]
    bars = axes.barh(range(len(names)), middle, color=[COLOURS[name] for name in names])
    axes.bar_label(bars, fmt="%.0f", padding=2)
    axes.set_title("prefill 1024: tokens/s", loc="left")
    axes.set_yticks([])
    axes.margins(x=0.2)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument(
        "--results",
        type=Path,
        default=Path(tempfile.gettempdir()) / "stillhouse-benchmark" / "1b" / "peers.json",
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
