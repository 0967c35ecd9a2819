"""``stillhouse usage``: what was used and what it cost, straight from the ledger."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from stillhouse.app import open_rooms
from stillhouse.billing.usage import UsageGrouping, UsageLine
from stillhouse.cli.options import HomeOption, JsonOption
from stillhouse.config import home_directory
from stillhouse.money import format_usd


def usage(
    by: Annotated[UsageGrouping, typer.Option(help="What a line stands for.")] = UsageGrouping.KEY,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show tokens and costs from the ledger."""
    lines = asyncio.run(_usage(by, home))
    if as_json:
        typer.echo(json.dumps([asdict(line) for line in lines], indent=2))
        return
    table = Table(by.value, "requests", "prompt", "cached", "completion", "cost")
    for column in table.columns[1:]:
        column.justify = "right"
    for line in lines:
        table.add_row(
            line.heading,
            f"{line.num_requests:,}",
            f"{line.prompt_tokens:,}",
            f"{line.cached_tokens:,}",
            f"{line.completion_tokens:,}",
            format_usd(line.cost_picousd),
        )
    Console().print(table)


async def _usage(by: UsageGrouping, home: HomeOption) -> list[UsageLine]:
    async with open_rooms(home_directory(home)) as rooms:
        return await rooms.ledger.usage(by=by)
