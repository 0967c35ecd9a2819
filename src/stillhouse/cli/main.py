"""``stillhouse``: runs the commands, and prints their errors."""

from __future__ import annotations

import os
import sys

import typer
from rich.console import Console
from rich.markup import escape

from stillhouse.cli import (
    accounts,
    bench,
    chat,
    doctor,
    keys,
    ledger,
    models,
    serve,
    statement,
    usage,
)
from stillhouse.errors import StillhouseError
from stillhouse.testing import failpoints
from stillhouse.testing.failpoints import VARIABLE as FAILPOINT_VARIABLE

app = typer.Typer(
    name="stillhouse",
    help="Your own DeepInfra: metered, OpenAI-compatible inference for open-weight models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(serve.serve)
app.command()(chat.chat)
app.add_typer(accounts.app, name="accounts")
app.add_typer(keys.app, name="keys")
app.command()(models.models)
app.command()(usage.usage)
app.command()(statement.statement)
app.add_typer(ledger.app, name="ledger")
app.command()(bench.bench)
app.command()(doctor.doctor)


def main() -> None:
    """Run the command line; an error made for people is one line on standard error and exit 1."""
    if setting := os.environ.get(FAILPOINT_VARIABLE):
        failpoints.arm(setting)
    try:
        app()
    except StillhouseError as error:
        Console(stderr=True).print(f"[red]error:[/red] {escape(error.message)}", highlight=False)
        sys.exit(1)
