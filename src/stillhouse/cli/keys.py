"""``stillhouse keys``: make, list and revoke API keys."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from stillhouse.accounts.accounts import ApiKey, MintedKey
from stillhouse.app import open_rooms
from stillhouse.cli.options import HomeOption, JsonOption
from stillhouse.config import home_directory

app = typer.Typer(help="Make, list and revoke API keys.", no_args_is_help=True)
DEFAULT_ACCOUNT = "default"


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    account: Annotated[str, typer.Option(help="Whose key it is.")] = DEFAULT_ACCOUNT,
    home: HomeOption = None,
) -> None:
    """Make a key; it alone is printed on standard output, and never shown again."""
    minted = asyncio.run(_create(name, account, home))
    Console(stderr=True).print(
        f"Key [bold]{minted.key.name}[/bold] of account {account}. It is shown once:"
    )
    typer.echo(minted.secret)


@app.command("list")
def list_(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Show every key: its name and first characters, never the secret."""
    keys = asyncio.run(_list(home))
    if as_json:
        typer.echo(json.dumps([asdict(key) for key in keys], indent=2))
        return
    table = Table("id", "name", "key", "created", "last used", "state")
    for key in keys:
        state = "revoked" if key.revoked_at_ms else "active"
        created, used = _day(key.created_at_ms), _day(key.last_used_at_ms)
        table.add_row(str(key.id), key.name, f"{key.prefix}…", created, used, state)
    Console().print(table)


@app.command()
def revoke(
    name: Annotated[str, typer.Argument(help="The key's name or id.")], home: HomeOption = None
) -> None:
    """End a key; a running server refuses it within a second."""
    key = asyncio.run(_revoke(name, home))
    Console(stderr=True).print(f"Key [bold]{key.name}[/bold] ({key.prefix}…) is revoked.")


async def _create(name: str, account_name: str, home: HomeOption) -> MintedKey:
    async with open_rooms(home_directory(home)) as rooms:
        known = {account.name: account for account in await rooms.accounts.list_accounts()}
        account = known.get(account_name) or await rooms.accounts.create_account(account_name)
        return await rooms.accounts.create_key(account.id, name)


async def _list(home: HomeOption) -> list[ApiKey]:
    async with open_rooms(home_directory(home)) as rooms:
        return await rooms.accounts.list_keys()


async def _revoke(name: str, home: HomeOption) -> ApiKey:
    async with open_rooms(home_directory(home)) as rooms:
        return await rooms.accounts.revoke_key(name)


def _day(at_ms: int | None) -> str:
    if at_ms is None:
        return "never"
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")
