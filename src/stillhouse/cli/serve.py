"""``stillhouse serve``: the service on one machine."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Annotated

import structlog
import typer
import uvicorn
import uvloop
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from stillhouse.app import Service, open_service
from stillhouse.cli.options import ConfigOption, HomeOption
from stillhouse.config import DEMO_MODEL, Config, home_directory, load_config
from stillhouse.engines.frames import Loading
from stillhouse.errors import AddressInUseError, ConfigError

_BACKLOG = 2048


def serve(
    config: ConfigOption = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 takes a free one.")] = None,
    home: HomeOption = None,
) -> None:
    """Serve the API; without a configuration, the demo model on http://127.0.0.1:8000."""
    settings = _with_address(load_config(config), host, port)
    _log_to_stderr()
    listener = _listen(settings)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings, listener, home=home_directory(home), source=config))


def _with_address(config: Config, host: str | None, port: int | None) -> Config:
    changed = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    return config.model_copy(update={"server": config.server.model_copy(update=changed)})


async def _serve(
    config: Config, listener: socket.socket, *, home: Path, source: Path | None
) -> None:
    console = Console(stderr=True)
    bar = _LoadingBar(console)
    async with AsyncExitStack() as stack:
        opening = open_service(config, home=home, source=source, on_progress=bar.show)
        with bar.shown():
            service = await stack.enter_async_context(opening)
        print_banner(console, service, config, listener.getsockname()[1])
        await _run_http(service, config, listener)


async def _run_http(service: Service, config: Config, listener: socket.socket) -> None:
    server = uvicorn.Server(
        uvicorn.Config(
            service.api,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=config.server.shutdown_grace_s,
        )
    )
    # When uvicorn has shut down, it raises the signal that told it to once more. That would end the
    # process before requests are settled and the engines and the ledger are closed.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    await server.serve(sockets=[listener])


def _listen(config: Config) -> socket.socket:
    host, port = config.server.host, config.server.port
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    # Inherited by each connection: an answer's second packet must not wait for the first one's
    # acknowledgement, which clients delay by 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except socket.gaierror as error:
        raise ConfigError(f"server.host {host!r} is not an address of this machine") from error
    except OSError as error:
        raise AddressInUseError(
            f"cannot listen on {host}:{port}: {error.strerror}; "
            f"stop what uses it, or choose another with --port"
        ) from error
    return listener


class _LoadingBar:
    """A progress bar that appears only when loading takes long enough to report itself."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), console=console, transient=True
        )
        self._tasks: dict[str, TaskID] = {}

    @contextmanager
    def shown(self) -> Iterator[None]:
        with self._progress:
            yield

    def show(self, loading: Loading) -> None:
        """Move the bar of a stage to where it stands."""
        if loading.stage not in self._tasks:
            self._tasks[loading.stage] = self._progress.add_task(loading.stage)
        self._progress.update(
            self._tasks[loading.stage], completed=loading.num_done, total=loading.num_total
        )


def print_banner(console: Console, service: Service, config: Config, port: int) -> None:
    """Where the service is, which key opens it, and a request ready to paste."""
    url = f"http://{config.server.host}:{port}"
    names = ", ".join(model.chat.spec.id for model in service.models)
    console.print(f"[bold]stillhouse[/bold] serves {names} on [bold]{url}[/bold]", highlight=False)
    for name, model_id in config.stand_ins.items():
        console.print(
            f"[yellow]No configuration: {model_id}, a demo, stands in for {name}.[/yellow]",
            highlight=False,
        )
    _print_key(console, service)
    model = next((model.chat.spec.id for model in service.models), DEMO_MODEL)
    console.print(_curl(url, model), highlight=False, markup=False, soft_wrap=True)


def _print_key(console: Console, service: Service) -> None:
    key = service.first_key
    if key is None:
        console.print("Make an API key with: stillhouse keys create NAME", highlight=False)
    elif key.is_new:
        console.print(f"Your API key, shown once and kept in {key.path}:", highlight=False)
        console.print(f"\n  export DEEPINFRA_TOKEN={key.secret}\n", highlight=False, soft_wrap=True)
    else:
        console.print(f"Your API key is kept in {key.path}:", highlight=False)
        command = f'export DEEPINFRA_TOKEN="$(cat {key.path})"'
        console.print(f"\n  {command}\n", highlight=False, soft_wrap=True)


def _curl(url: str, model: str) -> str:
    return f"""  curl {url}/v1/openai/chat/completions \\
    -H "Content-Type: application/json" \\
    -H "Authorization: Bearer $DEEPINFRA_TOKEN" \\
    -d '{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello!"}}]}}'
"""


def _log_to_stderr() -> None:
    renderer = (
        # The default shows local variables, among them what clients have written.
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        if sys.stderr.isatty() and not os.environ.get("NO_COLOR")
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
