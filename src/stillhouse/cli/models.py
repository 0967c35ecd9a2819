"""``stillhouse models``: lists the catalogue, and the models that are served."""

from __future__ import annotations

import json

import typer
from rich.console import Console
from rich.table import Column, Table

from stillhouse.app.config import load_config
from stillhouse.app.models import load_catalogue
from stillhouse.catalogue.model_spec import ModelSpec
from stillhouse.cli.options import ConfigOption, JsonOption
from stillhouse.money import MICROUSD_PER_USD


def models(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show the catalogue: prices in USD per million tokens, and which models are served."""
    settings = load_config(config)
    specs = load_catalogue(settings, config).specs
    rows = [_row(spec, is_served=spec.id in settings.models) for spec in specs]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    table = Table(Column("model", no_wrap=True), "context", "input", "cached", "output", "served")
    for column in table.columns[1:5]:
        column.justify = "right"
    for row in rows:
        table.add_row(*(_cell(value) for value in row.values()))
    Console().print(table)


def _row(spec: ModelSpec, *, is_served: bool) -> dict[str, object]:
    return {
        "id": spec.id,
        "context_length": spec.context_length,
        "input": spec.price.input_picousd / MICROUSD_PER_USD,
        "cached_input": spec.price.cached_input_picousd / MICROUSD_PER_USD,
        "output": spec.price.output_picousd / MICROUSD_PER_USD,
        "served": is_served,
    }


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else ""
    if isinstance(value, int):
        return f"{value:,}"
    return "" if value is None else str(value)
