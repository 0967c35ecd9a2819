"""Renders a benchmark as one self-contained HTML page, without scripts."""

from __future__ import annotations

import shlex

import jinja2
from markupsafe import Markup

from stillhouse_loadgen.report.document import Document, Run
from stillhouse_loadgen.report.plots import cdf_plot, latency_plot, sweep_plot, throughput_plot
from stillhouse_loadgen.report.tables import Grid, run_grids, sweep_grid

_TEMPLATE = "page.html.jinja"


def html_page(document: Document) -> str:
    """Returns the page; text from a server or a user is escaped."""
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
        sweep_plot=_markup_of(sweep_plot(document)) if has_sweep else None,
        cdf_plot=_markup_of(cdf_plot(document)),
        sections=[_section(run) for run in document.runs],
    )


def _section(run: Run) -> dict[str, list[Grid] | list[Markup]]:
    return {
        "grids": run_grids(run),
        "plots": [_markup_of(latency_plot(run)), _markup_of(throughput_plot(run))],
    }


def _markup_of(svg: str) -> Markup:
    return Markup(svg)  # noqa: S704  (matplotlib wrote it, and escapes the text in it)
