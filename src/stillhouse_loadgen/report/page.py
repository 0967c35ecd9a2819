"""A benchmark as one HTML page that needs nothing else: no network, no scripts."""

from __future__ import annotations

import shlex

import jinja2
from markupsafe import Markup

from stillhouse_loadgen.report.document import Document, Run
from stillhouse_loadgen.report.plots import cdf_plot, latency_plot, sweep_plot, throughput_plot
from stillhouse_loadgen.report.tables import Grid, run_grids, sweep_grid

_TEMPLATE = "page.html.jinja"


def html_page(document: Document) -> str:
    """Return the page; whatever a server or a user has written is escaped in it."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("stillhouse_loadgen.report", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    has_sweep = len(document.runs) > 1
    return environment.get_template(_TEMPLATE).render(
        document=document,
        command=shlex.join(document.command),
        sweep=sweep_grid(document) if has_sweep else None,
        sweep_plot=_drawn(sweep_plot(document)) if has_sweep else None,
        cdf_plot=_drawn(cdf_plot(document)),
        sections=[_section(run) for run in document.runs],
    )


def _section(run: Run) -> dict[str, list[Grid] | list[Markup]]:
    return {
        "grids": run_grids(run),
        "plots": [_drawn(latency_plot(run)), _drawn(throughput_plot(run))],
    }


def _drawn(svg: str) -> Markup:
    return Markup(svg)  # noqa: S704  (matplotlib wrote it, and escapes the text in it)
