"""``stillhouse accounts``: open accounts, and let prepaid ones spend what was paid in."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table

from stillhouse.accounts.accounts import Account
from stillhouse.app.services import Services
from stillhouse.cli.options import ConfigOption, HomeOption, JsonOption, usd_amount
from stillhouse.cli.services import with_services
from stillhouse.money import format_usd

app = typer.Typer(help="Open, list and top up accounts.", no_args_is_help=True)


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Whose account it is.")],
    prepaid: Annotated[
        bool, typer.Option("--prepaid", help="It spends what is topped up, and no more.")
    ] = False,
    config: ConfigOption = None,
    home: HomeOption = None,
) -> None:
    """Open an account; without --prepaid it pays afterwards, without limit."""

    async def open_(services: Services) -> Account:
        return await services.accounts.create_account(name, is_prepaid=prepaid)

    account = with_services(config, home, open_)
    Console(stderr=True).print(
        f"Account [bold]{account.name}[/bold] is open. Make it a key with: "
        f"stillhouse keys create NAME --account {account.name}",
        highlight=False,
    )


@app.command("list")
def list_(
    config: ConfigOption = None, home: HomeOption = None, as_json: JsonOption = False
) -> None:
    """Show every account: what it has spent, holds for running requests, and has left."""

    async def fetch(services: Services) -> list[dict[str, Any]]:
        balances = await services.statements.balances()
        return [
            {
                "id": account.id,
                "name": account.name,
                "is_prepaid": account.is_prepaid,
                **balances[account.id]._asdict(),
            }
            for account in await services.accounts.list_accounts()
        ]

    rows = with_services(config, home, fetch)
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    amounts = (Column(name, justify="right") for name in ("spent", "held", "left"))
    table = Table("id", "name", "pays", *amounts)
    for row in rows:
        table.add_row(*_cells(row))
    Console().print(table)


@app.command("top-up")
def top_up(
    name: Annotated[str, typer.Argument(help="The account's name.")],
    usd: Annotated[int, typer.Argument(parser=usd_amount, metavar="USD", help="What was paid in.")],
    note: Annotated[str, typer.Option(help="Where the money came from, for the record.")] = "",
    config: ConfigOption = None,
    home: HomeOption = None,
) -> None:
    """Let a prepaid account spend what its customer paid in."""

    async def pay_in(services: Services) -> None:
        account = await services.accounts.find_account(name)
        await services.ledger.limits.top_up(account.id, usd, note=note)

    with_services(config, home, pay_in)
    Console(stderr=True).print(f"Account [bold]{name}[/bold] may spend {format_usd(usd)} more.")


def _cells(row: dict[str, Any]) -> list[str]:
    spent, held, may_spend = row["spent_picousd"], row["held_picousd"], row["limit_picousd"]
    return [
        str(row["id"]),
        row["name"],
        "beforehand" if row["is_prepaid"] else "afterwards",
        format_usd(spent),
        format_usd(held),
        "" if may_spend is None else format_usd(may_spend - spent - held),
    ]
