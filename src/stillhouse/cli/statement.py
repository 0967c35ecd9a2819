"""``stillhouse statement``: a month's invoice from the ledger."""

from __future__ import annotations

import csv
import json
import sys
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table

from stillhouse.app.services import Services
from stillhouse.billing.statements.month import Month
from stillhouse.billing.statements.statement import Line, Statement
from stillhouse.cli.options import AccountOption, ConfigOption, HomeOption, JsonOption
from stillhouse.cli.services import with_services
from stillhouse.money import MICROUSD_PER_USD, format_usd, usd

_TEXTS = ("account", "model", "price", "tier")
_NUMBERS = ("requests", "tokens", "USD per million", "cost")


def statement(  # noqa: PLR0913  (one argument per option)
    month: Annotated[str, typer.Argument(help="For example 2026-11; it begins and ends in UTC.")],
    account: AccountOption = None,
    config: ConfigOption = None,
    home: HomeOption = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print the lines as CSV.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show a month's invoice: a line per account, model and version of its price."""
    if as_csv and as_json:
        raise typer.BadParameter("--csv and --json are two ways to print one thing")
    parsed = Month.parse(month)

    async def fetch(services: Services) -> Statement:
        account_id = account and (await services.accounts.find_account(account)).id
        return await services.statements.of(parsed, account_id=account_id or None)

    invoice = with_services(config, home, fetch)
    rows = [_row(line) for line in invoice.lines]
    if as_csv:
        _print_csv(rows)
    elif as_json:
        typer.echo(json.dumps(_summary(invoice) | {"lines": rows}, indent=2))
    else:
        _print_table(invoice)


def _summary(invoice: Statement) -> dict[str, Any]:
    return {
        "month": str(invoice.month),
        "from_ms": invoice.month.begin_ms,
        "to_ms": invoice.month.end_ms,
        "cost_picousd": invoice.cost_picousd,
        "cost_usd": f"{usd(invoice.cost_picousd):f}",
    }


def _row(line: Line) -> dict[str, Any]:
    usage = line.usage
    row: dict[str, Any] = {
        "account": usage.account,
        "model": usage.model,
        "price_version": usage.price_version,
        "service_tier": usage.service_tier,
        "num_requests": usage.sums.num_settled,
    }
    for item in line.items:
        row[f"{item.kind}_tokens"] = item.num_tokens
        row[f"{item.kind}_picousd_per_token"] = item.rate_picousd
        row[f"{item.kind}_usd"] = f"{usd(item.amount_picousd):f}"
    row["waived_usd"] = f"{usd(line.waived_picousd):f}"
    row["cost_picousd"] = line.cost_picousd
    row["cost_usd"] = f"{usd(line.cost_picousd):f}"
    return row


def _print_csv(rows: list[dict[str, Any]]) -> None:
    if rows:
        writer = csv.DictWriter(sys.stdout, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _print_table(invoice: Statement) -> None:
    numbers = (Column(name, justify="right") for name in _NUMBERS)
    table = Table(*_TEXTS, *numbers, title=f"Statement for {invoice.month} (UTC)")
    for line in invoice.lines:
        table.add_row(*_cells(line))
    table.add_section()
    table.add_row("total", *[""] * 6, f"[bold]{format_usd(invoice.cost_picousd)}[/bold]")
    Console().print(table)


def _cells(line: Line) -> list[str]:
    usage = line.usage
    used = [item for item in line.items if item.num_tokens]
    return [
        usage.account,
        usage.model,
        str(usage.price_version),
        usage.service_tier,
        f"{usage.sums.num_settled:,}",
        "\n".join(f"{item.num_tokens:,} {item.kind.replace('_', ' ')}" for item in used),
        "\n".join(f"{usd(item.rate_picousd * MICROUSD_PER_USD):f}" for item in used),
        format_usd(line.cost_picousd),
    ]
