"""Defines shared options, and parses amounts, durations and days of a command line."""

from __future__ import annotations

import re
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated

import typer

from stillhouse.app.config import CONFIG_VARIABLE, HOME_VARIABLE
from stillhouse.money import picousd

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", envvar=CONFIG_VARIABLE, help="TOML file; see docs/configuration.md."),
]
HomeOption = Annotated[
    Path | None,
    typer.Option("--home", envvar=HOME_VARIABLE, help="Folder that holds all state."),
]
AccountOption = Annotated[
    str | None, typer.Option("--account", help="The account's name; without it, every account.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

_UNITS = {
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}
_DURATION = re.compile(r"([0-9]{1,6})([mhdw])")
_EPOCH = date(1970, 1, 1)


def usd_amount(text: str) -> int:
    """Parse an amount in USD such as 12.50 into pico-dollars, without a float."""
    try:
        return picousd(text.removeprefix("$"))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def duration_ms(text: str) -> int:
    """Parse a duration such as 30d into milliseconds."""
    match = _DURATION.fullmatch(text)
    if match is None or int(match[1]) == 0:
        raise typer.BadParameter(f"'{text}' is no duration; write 45m, 12h, 30d or 8w")
    return int(match[1]) * _UNITS[match[2]] // timedelta(milliseconds=1)


def model_ids(text: str) -> frozenset[str]:
    """Parse ids of models, separated by commas."""
    ids = [part.strip() for part in text.split(",")]
    if not all(ids):
        raise typer.BadParameter(f"'{text}' is no list of models; write a/b,c/d")
    return frozenset(ids)


def day_ms(text: str) -> int:
    """Parse a day such as 2026-11-22, or a month, into its first moment in UTC."""
    full = text if text.count("-") > 1 else f"{text}-01"
    try:
        day = date.fromisoformat(full)
    except ValueError:
        day = None
    if day is None or day.isoformat() != full:  # ISO 8601 knows other ways to write a day
        raise typer.BadParameter(f"'{text}' is no day; write 2026-11-22 or 2026-11")
    return (day - _EPOCH) // timedelta(milliseconds=1)
