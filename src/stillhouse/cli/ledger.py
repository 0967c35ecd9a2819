"""``stillhouse ledger``: audit the ledger, and make anew what is derived in it."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from stillhouse.app import Rooms
from stillhouse.billing.verify import Difference
from stillhouse.billing.witness import compare_with_witness
from stillhouse.cli.options import ConfigOption, HomeOption, JsonOption
from stillhouse.cli.rooms import in_rooms
from stillhouse.engines.fake.witness import read_witness_log
from stillhouse.errors import ConfigError

app = typer.Typer(help="Audit the ledger, and make anew what is derived.", no_args_is_help=True)


@app.command()
def verify(
    witness: Annotated[
        list[Path] | None,
        typer.Option(help="An engine's log of the tokens it made; give those of every engine."),
    ] = None,
    config: ConfigOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Recompute every cost, posting and balance; exit 1 and name what differs, if anything does."""
    num_made = _read_witnesses(witness) if witness else None

    async def audit(rooms: Rooms) -> list[Difference]:
        differences = await rooms.ledger.verify()
        if num_made is not None:
            differences += await compare_with_witness(rooms.database, num_made)
        return differences

    differences = in_rooms(config, home, audit)
    if as_json:
        typer.echo(json.dumps([asdict(difference) for difference in differences], indent=2))
    else:
        for difference in differences:
            typer.echo(difference)
        verdict = f"{len(differences)} differences" if differences else "The ledger is right."
        Console(stderr=True).print(verdict)
    if differences:
        raise typer.Exit(1)


@app.command()
def rebuild(config: ConfigOption = None, home: HomeOption = None) -> None:
    """Sum every balance anew from requests and entries; a server may go on running."""

    async def sum_anew(rooms: Rooms) -> None:
        await rooms.ledger.rebuild()

    in_rooms(config, home, sum_anew)
    Console(stderr=True).print("Every balance and day's sum was made anew from the requests.")


def _read_witnesses(paths: list[Path]) -> Counter[str]:
    """How many tokens were made, by request id."""
    num_made: Counter[str] = Counter()
    for path in paths:
        try:
            log = read_witness_log(path)
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
        except (AssertionError, KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"{path}: is not a witness log: {error}") from error
        num_made.update({request_id: len(fact.token_ids) for request_id, fact in log.items()})
    return num_made
