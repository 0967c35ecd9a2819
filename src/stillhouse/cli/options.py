"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stillhouse.app.config import CONFIG_VARIABLE, HOME_VARIABLE

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
