"""``stillhouse keys``: make, list, limit and revoke API keys."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from stillhouse.accounts.accounts import ApiKey, MintedKey
from stillhouse.accounts.first_key import ACCOUNT_NAME
from stillhouse.app.services import Services
from stillhouse.billing.limits.spending_limits import LimitPeriod
from stillhouse.cli.options import (
    AccountOption,
    ConfigOption,
    HomeOption,
    JsonOption,
    duration_ms,
    model_ids,
    usd_amount,
)
from stillhouse.cli.services import with_services
from stillhouse.errors import InvalidRequestError
from stillhouse.money import format_usd

app = typer.Typer(help="Make, list, limit and revoke API keys.", no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(help="The key's name or id.")]
MonthlyOption = Annotated[
    bool, typer.Option("--monthly", help="The limit begins anew with each month (UTC).")
]


@app.command()
def create(  # noqa: PLR0913  (one argument per option)
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    account: Annotated[str, typer.Option(help="Whose key it is.")] = ACCOUNT_NAME,
    spending_limit_usd: Annotated[
        int | None, typer.Option(parser=usd_amount, metavar="USD", help="The most it may spend.")
    ] = None,
    monthly: MonthlyOption = False,
    models: Annotated[
        frozenset[str] | None,
        typer.Option(
            parser=model_ids, metavar="M,…", help="The models it is for; without it, all."
        ),
    ] = None,
    expires: Annotated[
        int | None,
        typer.Option(parser=duration_ms, metavar="30d", help="How long it works."),
    ] = None,
    config: ConfigOption = None,
    home: HomeOption = None,
) -> None:
    """Make a key; it alone is printed on standard output, and never shown again."""
    if monthly and spending_limit_usd is None:
        raise typer.BadParameter("--monthly says when --spending-limit-usd begins anew")

    async def mint(services: Services) -> MintedKey:
        minted = await services.accounts.keys.mint(
            await _account_id(services, account),
            name,
            expires_at_ms=None if expires is None else services.clock.now_ms() + expires,
            allowed_models=models,
        )
        if spending_limit_usd is not None:  # before the key is printed
            await services.ledger.limits.set_key_limit(
                minted.key.id, spending_limit_usd, period=_period(is_monthly=monthly)
            )
        return minted

    minted = with_services(config, home, mint)
    Console(stderr=True).print(
        f"Key [bold]{minted.key.name}[/bold] of account {account}. It is shown once:"
    )
    typer.echo(minted.secret)


@app.command("list")
def list_(
    account: AccountOption = None,
    config: ConfigOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show every key: its name and first characters, never the secret."""

    async def fetch(services: Services) -> list[dict[str, Any]]:
        names = {known.id: known.name for known in await services.accounts.list_accounts()}
        account_id = account and (await services.accounts.find_account(account)).id
        keys = await services.accounts.keys.list_all(account_id or None)
        now_ms = services.clock.now_ms()
        return [_row(key, names[key.account_id], now_ms=now_ms) for key in keys]

    rows = with_services(config, home, fetch)
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    table = Table(
        "id", "account", "name", "key", "models", "limit", "expires", "last used", "state"
    )
    for row in rows:
        table.add_row(*_cells(row))
    Console().print(table)


@app.command()
def revoke(
    name: NameArgument,
    account: AccountOption = None,
    config: ConfigOption = None,
    home: HomeOption = None,
) -> None:
    """End a key and the scoped tokens it signed; a running server refuses them within a second."""

    async def end(services: Services) -> ApiKey:
        account_id = account and (await services.accounts.find_account(account)).id
        return await services.accounts.keys.revoke_named(name, account_id=account_id or None)

    key = with_services(config, home, end)
    Console(stderr=True).print(f"Key [bold]{key.name}[/bold] ({key.prefix}…) is revoked.")


@app.command()
def limit(  # noqa: PLR0913  (one argument per option)
    name: NameArgument,
    usd: Annotated[
        int | None,
        typer.Argument(parser=usd_amount, metavar="USD", help="The most that it may spend."),
    ] = None,
    monthly: MonthlyOption = False,
    none: Annotated[bool, typer.Option("--none", help="Take the limit away.")] = False,
    account: AccountOption = None,
    config: ConfigOption = None,
    home: HomeOption = None,
) -> None:
    """Limit what a key spends; what it has spent already counts."""
    if (usd is None) is not none:
        raise typer.BadParameter("give an amount in USD, or --none")

    async def change(services: Services) -> ApiKey:
        account_id = account and (await services.accounts.find_account(account)).id
        key = await services.accounts.keys.find_live(name, account_id=account_id or None)
        await services.ledger.limits.set_key_limit(key.id, usd, period=_period(is_monthly=monthly))
        return key

    key = with_services(config, home, change)
    may_spend = "without a limit" if usd is None else f"{format_usd(usd)}{' a month' * monthly}"
    Console(stderr=True).print(f"Key [bold]{key.name}[/bold] may spend {may_spend}.")


async def _account_id(services: Services, name: str) -> int:
    """Return the account's id; create the first account of a new installation if it is missing."""
    try:
        return (await services.accounts.find_account(name)).id
    except InvalidRequestError:
        if name != ACCOUNT_NAME:
            raise
        return (await services.accounts.create_account(name)).id


def _period(*, is_monthly: bool) -> LimitPeriod:
    return LimitPeriod.MONTH if is_monthly else LimitPeriod.TOTAL


def _row(key: ApiKey, account: str, *, now_ms: int) -> dict[str, Any]:
    return {
        "id": key.id,
        "account": account,
        "name": key.name,
        "prefix": key.prefix,
        "allowed_models": None if key.allowed_models is None else sorted(key.allowed_models),
        "limit_picousd": key.limit and key.limit.amount_picousd,
        "limit_period": key.limit and key.limit.period,
        "created_at_ms": key.created_at_ms,
        "last_used_at_ms": key.last_used_at_ms,
        "expires_at_ms": key.expires_at_ms,
        "revoked_at_ms": key.revoked_at_ms,
        "state": _state(key, now_ms=now_ms),
    }


def _state(key: ApiKey, *, now_ms: int) -> str:
    if key.revoked_at_ms is not None:
        return "revoked"
    is_over = key.expires_at_ms is not None and key.expires_at_ms <= now_ms
    return "expired" if is_over else "active"


def _cells(row: dict[str, Any]) -> list[str]:
    limit_picousd, models = row["limit_picousd"], row["allowed_models"]
    a_month = " a month" if row["limit_period"] == LimitPeriod.MONTH else ""
    return [
        str(row["id"]),
        row["account"],
        row["name"],
        f"{row['prefix']}…",
        "all" if models is None else ", ".join(models),
        "" if limit_picousd is None else f"{format_usd(limit_picousd)}{a_month}",
        _minute(row["expires_at_ms"]),
        _minute(row["last_used_at_ms"]),
        row["state"],
    ]


def _minute(at_ms: int | None) -> str:
    if at_ms is None:
        return "never"
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")
