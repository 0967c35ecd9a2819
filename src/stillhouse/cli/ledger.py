"""``stillhouse ledger``: audits the ledger, and rebuilds its derived sums."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from stillhouse.app.config import home_directory, load_config
from stillhouse.app.services import Services, adopt_ledger
from stillhouse.billing.archive.archive import ArchiveResult, archive_path, archive_requests
from stillhouse.billing.audit.engine_logs import compare_with_engine_logs
from stillhouse.billing.audit.rebuild import RebuildResult
from stillhouse.billing.audit.verify import Audit
from stillhouse.billing.statements.month import Month
from stillhouse.cli.options import ConfigOption, HomeOption, JsonOption
from stillhouse.cli.services import with_services
from stillhouse.errors import ConfigError
from stillhouse.money import format_usd
from stillhouse.store.ledger.coverage import Coverage
from stillhouse.testing.fake_engine.witness import read_witness_log

app = typer.Typer(help="Audit the ledger, and rebuild its derived sums.", no_args_is_help=True)


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
    num_generated = _read_witnesses(witness) if witness else None

    async def audit(services: Services) -> Audit:
        found = await services.ledger.auditor.audit()
        if num_generated is not None:
            found.differences.extend(
                await compare_with_engine_logs(services.database, num_generated)
            )
        return found

    found = with_services(config, home, audit, must_exist=True)
    if as_json:
        typer.echo(json.dumps(asdict(found), indent=2))
    else:
        for difference in found.differences:
            typer.echo(difference)
        num_wrong = len(found.differences)
        verdict = (
            f"{num_wrong} difference{'s' * (num_wrong != 1)}"
            if num_wrong
            else "The ledger is right."
        )
        Console(stderr=True).print(f"{verdict}\n{_describe(found.covered)}", highlight=False)
    if found.differences:
        raise typer.Exit(1)


@app.command()
def adopt(
    config: ConfigOption = None,
    home: HomeOption = None,
    *,
    new: Annotated[bool, typer.Option("--new", help="Make one where there is none.")] = False,
) -> None:
    """Take the ledger that is there for the home's own, after it was replaced on purpose."""
    url = load_config(config).store.url
    ledger_id = adopt_ledger(home_directory(home), url=url, is_new=new)
    Console(stderr=True).print(f"The home's ledger is {ledger_id} now.", highlight=False)


@app.command()
def rebuild(config: ConfigOption = None, home: HomeOption = None) -> None:
    """Sum every balance anew from requests and entries; a server goes on serving meanwhile."""

    async def sum_anew(services: Services) -> RebuildResult:
        return await services.ledger.auditor.rebuild()

    rebuilt = with_services(config, home, sum_anew, must_exist=True)
    console = Console(stderr=True)
    console.print(
        "Every balance and day's sum was made anew from the requests; "
        f"{rebuilt.num_corrected} were wrong.",
        highlight=False,
    )
    if not rebuilt.is_right:
        console.print("Some differ all the same. Run: stillhouse ledger verify", highlight=False)
        raise typer.Exit(1)


@app.command()
def archive(
    before: Annotated[str, typer.Option(help="The first month that stays, such as 2026-08.")],
    to: Annotated[
        Path | None, typer.Option(help="The file, .jsonl.gz; in the home by default.")
    ] = None,
    config: ConfigOption = None,
    home: HomeOption = None,
) -> None:
    """Move old months' requests into a packed file; every sum, balance and statement stays."""
    month = Month.parse(before)

    async def move(services: Services) -> ArchiveResult:
        path = to or archive_path(home_directory(home), month, services.clock.now_ms())
        return await archive_requests(
            services.database, services.clock, before=month, path=path.absolute()
        )

    archived = with_services(config, home, move, must_exist=True)
    where = f" into {archived.path}" if archived.path else ""
    Console(stderr=True).print(
        f"{archived.num_requests} requests were moved{where}.", highlight=False, soft_wrap=True
    )


def _describe(covered: Coverage) -> str:
    """Describe what was audited, so that the audit of an empty ledger is recognised as one."""
    span = ""
    if covered.first_request_at_ms is not None and covered.last_request_at_ms is not None:
        span = f" from {_moment(covered.first_request_at_ms)} to "
        span += _moment(covered.last_request_at_ms)
    return (
        f"Ledger {covered.ledger_id}: {_count(covered.num_requests, 'request')}{span}, "
        f"{covered.num_held} of them held; {covered.num_archived} more archived; "
        f"{covered.num_entries} entries; "
        f"{_count(covered.num_accounts, 'account')}; "
        f"charged {format_usd(covered.charged_picousd)}, "
        f"paid in {format_usd(covered.paid_in_picousd)}."
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _moment(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _read_witnesses(paths: list[Path]) -> Counter[str]:
    """Read the number of generated tokens by request id from the engines' token logs."""
    num_generated: Counter[str] = Counter()
    for path in paths:
        try:
            log = read_witness_log(path)
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
        except (AssertionError, KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"{path}: is not a witness log: {error}") from error
        num_generated.update({request_id: len(fact.token_ids) for request_id, fact in log.items()})
    return num_generated
