"""``stillhouse usage``: prints tokens and costs from the ledger."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from stillhouse.app.services import Services
from stillhouse.billing.statements.usage import UsageGrouping, UsageLine
from stillhouse.cli.options import AccountOption, ConfigOption, HomeOption, JsonOption, day_ms
from stillhouse.cli.services import with_services
from stillhouse.money import format_usd


def usage(  # noqa: PLR0913  (one argument per option)
    by: Annotated[UsageGrouping, typer.Option(help="What a line stands for.")] = UsageGrouping.KEY,
    from_: Annotated[
        int | None, typer.Option("--from", parser=day_ms, metavar="DAY", help="First day (UTC).")
    ] = None,
    to: Annotated[
        int | None,
        typer.Option(parser=day_ms, metavar="DAY", help="First day that is not counted any more."),
    ] = None,
    account: AccountOption = None,
    config: ConfigOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show tokens and costs from the ledger."""

    async def fetch(services: Services) -> list[UsageLine]:
        account_id = account and (await services.accounts.find_account(account)).id
        return await services.statements.usage(
            by=by, from_ms=from_ or 0, to_ms=to, account_id=account_id or None
        )

    lines = with_services(config, home, fetch)
    if as_json:
        typer.echo(json.dumps([asdict(line) for line in lines], indent=2))
        return
    numbers = ("requests", "prompt", "cached", "completion", "cost")
    table = Table(by.value, *(Column(name, justify="right") for name in numbers))
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
