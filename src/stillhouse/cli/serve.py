"""``stillhouse serve``: runs the service on one machine."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from stillhouse.api.server.config import ServerConfig
from stillhouse.api.server.connection import Timeouts
from stillhouse.api.server.head import HeadBounds
from stillhouse.api.server.server import BACKLOG, HttpRules, HttpServer, raise_file_limit
from stillhouse.app.config import Config, home_directory, load_config
from stillhouse.app.service import Service, open_service
from stillhouse.catalogue.demo_models import DEMO_MODEL
from stillhouse.cli.options import ConfigOption, HomeOption
from stillhouse.engines.worker.frames import Loading
from stillhouse.errors import AddressInUseError, ConfigError
from stillhouse.serving.registry.states import ModelState
from stillhouse.settings import KIB
from stillhouse.telemetry.log import log_to_stderr

#: Linux doubles it. With what the gateway holds itself, at most 512 KiB of a stream's text wait.
_SEND_BUFFER_BYTES = 64 << 10
#: For the last events of answers that were cut off; then connections are closed.
_LAST_WORDS_S = 2
#: Most of a request's objects are freed as it ends; cycles around its connection must not gather.
_GC_THRESHOLDS = (10_000, 5, 5)

#: Threads that render and tokenise give the interpreter's lock back to the event loop after so
#: long. With Python's 5 ms, each pause of a stream beside one was three times as long.
_SWITCH_INTERVAL_S = 0.001


def serve(
    config: ConfigOption = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 takes a free one.")] = None,
    home: HomeOption = None,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="End if a model cannot be loaded; else serve the others."),
    ] = False,
) -> None:
    """Serve the API; without a configuration, the demo model on http://127.0.0.1:8000."""
    settings = _with_address(load_config(config), host, port)
    log_to_stderr()
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    raise_file_limit()
    listener = _listen(settings)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(
            _serve(settings, listener, home=home_directory(home), source=config, is_strict=strict)
        )


def _with_address(config: Config, host: str | None, port: int | None) -> Config:
    changed = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    return config.model_copy(update={"server": config.server.model_copy(update=changed)})


async def _serve(
    config: Config, listener: socket.socket, *, home: Path, source: Path | None, is_strict: bool
) -> None:
    console = Console(stderr=True)
    bar = _LoadingBar(console)
    async with AsyncExitStack() as stack:
        opening = open_service(
            config, home=home, source=source, on_progress=bar.show, is_strict=is_strict
        )
        with bar.shown():
            service = await stack.enter_async_context(opening)
        _leave_to_collector_what_is_new()
        signals = _Signals()  # from here on a signal drains running requests
        print_banner(console, service, config, listener.getsockname()[1])
        await _run_http(service, config, listener, signals)


def _leave_to_collector_what_is_new() -> None:
    """
    Exclude everything loaded so far from garbage collection.

    Vocabularies and modules are some hundred thousand objects that live as long as the process:
    a full collection that scans them blocks every stream for tens of milliseconds.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)


async def _run_http(
    service: Service, config: Config, listener: socket.socket, signals: _Signals
) -> None:
    server = HttpServer(service.api, http_rules(config.server), service.metrics)
    async with server.listening(listener, grace_s=_LAST_WORDS_S):
        await signals.first.wait()
        await _drain(service, config, hurry=signals.second)


def http_rules(config: ServerConfig) -> HttpRules:
    """Return the bounds of *config* as the HTTP server takes them."""
    return HttpRules(
        HeadBounds(
            max_bytes=config.max_head_kib * KIB,
            max_lines=config.max_header_lines,
            max_line_bytes=config.max_header_line_kib * KIB,
            max_target_bytes=config.max_target_kib * KIB,
        ),
        Timeouts(
            head_s=config.head_timeout_s,
            idle_s=config.idle_timeout_s,
            stall_s=config.stall_timeout_s,
        ),
        max_connections=config.max_connections,
    )


async def _drain(service: Service, config: Config, *, hurry: asyncio.Event) -> None:
    """Shut down: turn unready, refuse new requests, then stop what outlasts the grace period."""
    service.drain.begin()
    with suppress(TimeoutError):
        await asyncio.wait_for(hurry.wait(), config.server.drain_delay_s)
    service.drain.refuse()
    await service.completions.drain(config.server.shutdown_grace_s, hurry=hurry)


class _Signals:
    """Receives signals: the first SIGINT or SIGTERM ends the server, the second skips the grace."""

    def __init__(self) -> None:
        self.first, self.second = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._hear)

    def _hear(self) -> None:
        (self.second if self.first.is_set() else self.first).set()


def _listen(config: Config) -> socket.socket:
    host, port = config.server.host, config.server.port
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    # Inherited by each connection: an answer's second packet must not wait for the first one's
    # acknowledgement, which clients delay by 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except socket.gaierror as error:
        raise ConfigError(f"server.host {host!r} is not an address of this machine") from error
    except OSError as error:
        raise AddressInUseError(
            f"cannot listen on {host}:{port}: {error.strerror}; "
            f"stop what uses it, or choose another with --port"
        ) from error
    return listener


class _LoadingBar:
    """Shows a progress bar if loading takes long enough to report progress."""

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
        """Move the bar of a stage to its progress."""
        if loading.stage not in self._tasks:
            self._tasks[loading.stage] = self._progress.add_task(loading.stage)
        self._progress.update(
            self._tasks[loading.stage], completed=loading.num_done, total=loading.num_total
        )


def print_banner(console: Console, service: Service, config: Config, port: int) -> None:
    """Print the address, the API key and a request to paste."""
    url = f"http://{config.server.host}:{port}"
    names = ", ".join(model.spec.id for model in service.models)
    served = f"[bold]stillhouse[/bold] serves {names} on [bold]{url}[/bold]"
    console.print(served, highlight=False, soft_wrap=True)
    for status in service.models.statuses:
        if status.state is ModelState.FAILED:
            text = f"{status.model_id} failed to load, and is not served: {status.reason}"
            console.print(text, style="red", highlight=False, markup=False)
    for name, model_id in config.fallback_models.items():
        text = f"{model_id} serves requests for {name}, which is not loaded."
        console.print(text, style="yellow", highlight=False, markup=False, soft_wrap=True)
    _print_key(console, service)
    model = next((model.spec.id for model in service.models), DEMO_MODEL)
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
