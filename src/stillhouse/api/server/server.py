"""The HTTP server: listens, checks its connections' deadlines, and shuts down gracefully."""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from email.utils import formatdate

import structlog
from starlette.types import ASGIApp

from stillhouse.api.server.connection import Connection, Timeouts
from stillhouse.api.server.connections import Connections, Entry
from stillhouse.api.server.exchange import Exchange
from stillhouse.api.server.head import HeadBounds
from stillhouse.clock import Clock, SystemClock
from stillhouse.telemetry.metrics import Metrics

log = structlog.get_logger()

#: They take 14 MiB if all are idle.
MAX_CONNECTIONS = 10_000
#: Most connections that the system has established and this process has not accepted.
BACKLOG = 2048
_CHECKS_PER_TIMEOUT = 8
_MAX_PAUSE_S = 1.0  # the Date header is at most this old
_CHECKS_PER_BATCH = 500


@dataclass(frozen=True, slots=True)
class HttpRules:
    """
    The bounds within which HTTP is served.

    Args:
        max_connections: None derives it from the limit of open files.

    """

    bounds: HeadBounds = field(default_factory=HeadBounds)
    timeouts: Timeouts = field(default_factory=Timeouts)
    max_connections: int | None = None


def raise_file_limit() -> int:
    """Raises the limit of open files to the system's hard limit, and returns it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def connections_within(max_files: int) -> int:
    """Returns how many connections leave enough files for the ledger and the engines."""
    if max_files == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return min(max_files - min(512, max_files // 4), MAX_CONNECTIONS)


class HttpServer:
    """
    Serves an ASGI application in HTTP/1.1.

    Args:
        clock: The clock of the Date header; None is the system's.

    """

    def __init__(
        self, app: ASGIApp, rules: HttpRules, metrics: Metrics, clock: Clock | None = None
    ) -> None:
        self.app = app
        self.bounds = rules.bounds
        self.timeouts = rules.timeouts
        max_open = rules.max_connections or connections_within(
            resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        )
        self.connections = Connections(max_open, metrics)
        self.is_closing = False
        self.loop = asyncio.get_running_loop()
        self.address: object = None
        self._clock = clock or SystemClock()
        self._exchanges: set[asyncio.Task[None]] = set()
        self._update_date()

    def start(self, exchange: Exchange) -> None:
        """Runs the application on a request."""
        task = self.loop.create_task(exchange.run(self.app))
        self._exchanges.add(task)
        task.add_done_callback(self._exchanges.discard)

    @asynccontextmanager
    async def listening(self, listener: socket.socket, *, grace_s: float) -> AsyncIterator[None]:
        """
        Serves inside the context; on exit refuses new connections and waits for responses.

        Args:
            grace_s: How long to wait for running responses before they are cut off.

        """
        self.address = listener.getsockname()[:2]
        server = await self.loop.create_server(
            lambda: Connection(self), sock=listener, backlog=BACKLOG
        )
        looking = self.loop.create_task(self._check_periodically(), name="connections")
        try:
            yield
        finally:
            server.close()
            await self._shut_down(grace_s)
            looking.cancel()

    async def _check_periodically(self) -> None:
        """Checks all deadlines periodically: a timer per connection would take memory."""
        timeouts = (self.timeouts.head_s, self.timeouts.idle_s, self.timeouts.stall_s)
        pause_s = min(min(timeouts) / _CHECKS_PER_TIMEOUT, _MAX_PAUSE_S)
        while True:
            await asyncio.sleep(pause_s)
            self._update_date()
            await self._check_all()

    async def _check_all(self) -> None:
        now_s = self.loop.time()
        num_cut = 0
        for number, connection in enumerate(self.connections, start=1):
            num_cut += self._check_one(connection, now_s)
            if number % _CHECKS_PER_BATCH == 0:
                await asyncio.sleep(0)
        if num_cut:
            log.info("clients_did_not_read", num_cut=num_cut)
        self.connections.report(now_s)

    def _check_one(self, connection: Entry, now_s: float) -> bool:
        """Checks one connection; one that cannot be closed is not checked again."""
        try:
            return connection.check_deadlines(now_s)
        except Exception:
            log.exception("connection_not_closed")
            self.connections.remove(connection)
            return False

    def _update_date(self) -> None:
        seconds = self._clock.now_ms() // 1000
        self.date = f"date: {formatdate(seconds, usegmt=True)}\r\n".encode()

    async def _shut_down(self, grace_s: float) -> None:
        self.is_closing = True
        for connection in self.connections:
            connection.shut_down()
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await self.connections.is_empty.wait()
                while self._exchanges:
                    await asyncio.wait(self._exchanges)
        for task in self._exchanges:
            task.cancel()
        await asyncio.gather(*self._exchanges, return_exceptions=True)
        for connection in self.connections:
            connection.close()
