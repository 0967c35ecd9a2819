"""``stillhouse bench``: loads an OpenAI-compatible server, and reports what its users would see."""

from __future__ import annotations

import asyncio
import importlib.util
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
import uvloop
from rich.console import Console
from rich.table import Table

from stillhouse.cli.chat import TOKEN_VARIABLE
from stillhouse.clock import SystemClock
from stillhouse.errors import ConfigError, ServingError

if TYPE_CHECKING:  # these modules import libraries of the extra, which take time to load
    from stillhouse_loadgen.benchmark import Benchmark, Plan
    from stillhouse_loadgen.report.document import Document
    from stillhouse_loadgen.report.tables import Grid

_LIBRARIES_OF_EXTRA = ("aiohttp", "matplotlib")


def bench(  # noqa: PLR0913  (one argument per option)
    url: Annotated[str, typer.Argument(help="As OpenAI's clients take it: http://host:8000/v1.")],
    model: Annotated[str, typer.Option(help="Model id.")],
    key: Annotated[
        list[str] | None,
        typer.Option(
            envvar=TOKEN_VARIABLE, help="API key; several with shares of the load: KEY:SHARE."
        ),
    ] = None,
    keys_file: Annotated[
        Path | None, typer.Option(help='TOML: a table for each key, with key = "…", share = 1.')
    ] = None,
    rate: Annotated[
        str | None, typer.Option(help="Open loop: requests per second; 1,2,4 is a sweep.")
    ] = None,
    arrivals: Annotated[
        str, typer.Option(help="The open loop's arrivals: poisson or constant.")
    ] = "poisson",
    concurrency: Annotated[
        str | None, typer.Option(help="Closed loop: conversations at once; 1,4,16 is a sweep.")
    ] = None,
    trace: Annotated[
        Path | None, typer.Option(help="Replay a trace: JSON lines in Mooncake's format.")
    ] = None,
    speed: Annotated[
        str | None, typer.Option(help="The trace's speed, by default 1; 1,2,4 is a sweep.")
    ] = None,
    requests: Annotated[
        int | None, typer.Option(min=1, help="End after this many; 100 without any limit.")
    ] = None,
    duration: Annotated[str | None, typer.Option(help="End after 30s, 5m, ….")] = None,
    warmup: Annotated[str | None, typer.Option(help="Do not count the first 10s, ….")] = None,
    input_tokens: Annotated[
        str,
        typer.Option(
            "--input", help="Tokens per question: 256, uniform:64-512, lognormal:MEAN,DEVIATION."
        ),
    ] = "256",
    output_tokens: Annotated[
        str, typer.Option("--output", help="max_tokens, written like --input.")
    ] = "64",
    turns: Annotated[str, typer.Option(help="Questions per conversation, like --input.")] = "1",
    think: Annotated[
        str, typer.Option(help="Seconds from an answer to the next question, like --input.")
    ] = "0",
    prefixes: Annotated[int, typer.Option(help="Number of shared system messages.")] = 0,
    prefix_length: Annotated[int, typer.Option(help="Tokens of each shared system message.")] = 512,
    prefix_share: Annotated[
        float, typer.Option(help="Share of the conversations that begin with one.")
    ] = 1.0,
    goodput: Annotated[
        list[str] | None,
        typer.Option(help="Targets: ttft:2s,itl:100ms; also max_itl, tpot and e2e."),
    ] = None,
    extra: Annotated[str, typer.Option(help="JSON with further fields of every body.")] = "{}",
    timeout: Annotated[str, typer.Option(help="A longer request counts as failed.")] = "10m",
    max_in_flight: Annotated[
        int, typer.Option(min=1, help="Further requests are recorded as not sent.")
    ] = 10_000,
    tokens_per_word: Annotated[
        float | None,
        typer.Option(help="Of the server's tokenizer; measured by default."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Equal seeds make equal loads.")] = 0,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write every record to this file.")
    ] = None,
    html_file: Annotated[
        Path | None, typer.Option("--html", help="Write a report with plots to this file.")
    ] = None,
) -> None:
    """Load an OpenAI-compatible server, and report what its users would see."""
    _need_extra()
    from stillhouse_loadgen.arguments import Arguments  # noqa: PLC0415  (of an extra)

    arguments = Arguments(
        url=url,
        model=model,
        key=key or [],
        keys_file=keys_file,
        rate=rate,
        arrivals=arrivals,
        concurrency=concurrency,
        trace=trace,
        speed=speed,
        requests=requests,
        duration=duration,
        warmup=warmup,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        turns=turns,
        think=think,
        prefixes=prefixes,
        prefix_length=prefix_length,
        prefix_share=prefix_share,
        goodput=goodput or [],
        extra=extra,
        timeout=timeout,
        max_in_flight=max_in_flight,
        tokens_per_word=tokens_per_word,
        seed=seed,
    )
    with _translated_errors():
        document = _run_plan(arguments.plan(), json_file, html_file)
    _need_an_answer(document)


def _need_extra() -> None:
    missing = [name for name in _LIBRARIES_OF_EXTRA if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"this command needs {' and '.join(missing)}: pip install 'stillhouse[bench]'"
        )


@contextmanager
def _translated_errors() -> Iterator[None]:
    """Raise the load generator's errors as stillhouse's own, which `main` prints."""
    from stillhouse_loadgen.errors import (  # noqa: PLC0415  (of an extra)
        ArgumentError,
        TargetError,
    )

    try:
        yield
    except ArgumentError as error:
        raise ConfigError(error.message) from error
    except TargetError as error:
        raise ServingError(error.message) from error


def _run_plan(plan: Plan, json_file: Path | None, html_file: Path | None) -> Document:
    for path in (json_file, html_file):
        _need_writable(path)
    document = _run(plan)
    _print(document)
    _write(document, json_file, html_file)
    return document


def _need_writable(path: Path | None) -> None:
    """Fail before the load, and not after it."""
    if path is None:
        return
    try:
        with path.open("a"):
            pass
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error


def _run(plan: Plan) -> Document:
    from stillhouse_loadgen.benchmark import Benchmark  # noqa: PLC0415  (of an extra)
    from stillhouse_loadgen.live_view import live_view  # noqa: PLC0415  (of an extra)
    from stillhouse_loadgen.report.document import (  # noqa: PLC0415  (of an extra)
        Document,
        command_without,
        this_environment,
    )

    _allow_open_files()
    benchmark = Benchmark(plan, SystemClock(), live_view(Console(stderr=True)))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run_until_interrupted(benchmark))
    return Document(
        command=command_without(key.secret for key in plan.keys.keys),
        environment=this_environment(),
        url=plan.target.chat_url,
        model=plan.target.model,
        seed=plan.seed,
        tokens_per_word=benchmark.scale.tokens_per_word,
        targets=plan.targets,
        runs=benchmark.runs,
    )


def _allow_open_files() -> None:
    """Raise the limit of open files: each request in flight is a connection."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def _run_until_interrupted(benchmark: Benchmark) -> None:
    """Report a partial run after the first Ctrl-C; exit after the second."""
    loop = asyncio.get_running_loop()

    def interrupted() -> None:
        loop.remove_signal_handler(signal.SIGINT)
        benchmark.stop()

    loop.add_signal_handler(signal.SIGINT, interrupted)
    try:
        await benchmark.run()
    finally:
        loop.remove_signal_handler(signal.SIGINT)


def _print(document: Document) -> None:
    from stillhouse_loadgen.report.tables import grids  # noqa: PLC0415  (of an extra)

    console = Console()
    for grid in grids(document):
        console.print(_table(grid))


def _table(grid: Grid) -> Table:
    title = grid.title or None
    table = Table(title=title, show_header=any(grid.header), title_justify="left")
    for place, name in enumerate(grid.header):
        table.add_column(name, justify="right" if place else "left")
    for row in grid.rows:
        table.add_row(*(cell.replace("[", r"\[") for cell in row))
    return table


def _write(document: Document, json_file: Path | None, html_file: Path | None) -> None:
    if json_file is not None:
        from stillhouse_loadgen.record import encode_json  # noqa: PLC0415  (of an extra)

        json_file.write_bytes(encode_json(document))
    if html_file is not None:
        from stillhouse_loadgen.report.page import html_page  # noqa: PLC0415  (imports matplotlib)

        html_file.write_text(html_page(document), encoding="utf-8")


def _need_an_answer(document: Document) -> None:
    summaries = [run.summary for run in document.runs]
    if not any(summary.num_completed for summary in summaries):
        kinds = {kind for summary in summaries for kind in summary.failures}
        raise ServingError(f"no request was answered: {', '.join(sorted(kinds)) or 'none ended'}")
