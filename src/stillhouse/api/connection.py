"""One client's connection: uvicorn's, which also sees whether its client reads."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Iterable
from typing import Any, cast

import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

log = structlog.get_logger()

#: In a request's scope from when its connection was cut because its client did not read.
STALLED = "stillhouse.stalled"

_CHECKS_PER_TIMEOUT = 8
_LINGER_0 = struct.pack("ii", 1, 0)


class Connection(HttpToolsProtocol):
    """
    Serves HTTP/1.1 as uvicorn does, and can be cut when its client takes nothing.

    A client that stands still takes no memory but what waits for it, and that has to be given back
    at some time, whatever is waiting: a stream, or the rest of an answer that ended long ago.
    """

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._counted = CountedTransport(cast("asyncio.Transport", transport))
        self._num_taken = 0
        self._taken_at_s = 0.0
        self._served: RequestResponseCycle | None = None
        super().connection_made(cast("asyncio.Transport", self._counted))

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        # Of several requests that were sent ahead, uvicorn knows the last, and serves the first.
        self._served = cycle
        super()._start_asgi_task(cycle, app)

    def connection_lost(self, exc: Exception | None) -> None:
        """End; the request at work is told, also where the client has sent another one already."""
        if self._served is not None and not self._served.response_complete:
            self._served.disconnected = True
            self._served.message_event.set()
        super().connection_lost(exc)

    def cut_if_stalled(self, now_s: float, timeout_s: float) -> bool:
        """Cut it if something is ready and nothing of it was taken for *timeout_s*; say whether."""
        num_waiting = self._counted.get_write_buffer_size()
        num_taken = self._counted.num_written - num_waiting
        if num_waiting == 0 or num_taken != self._num_taken:
            self._num_taken, self._taken_at_s = num_taken, now_s
            return False
        if now_s - self._taken_at_s < timeout_s:
            return False
        at_work = self._served or self.cycle
        if at_work is not None:
            cast("dict[str, Any]", at_work.scope)[STALLED] = True
        self._counted.abort()
        return True


class CountedTransport:
    """A transport that knows how much was ever written to it."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.num_written = 0

    def write(self, data: bytes) -> None:
        """Write *data*, now or when there is room."""
        self.num_written += len(data)
        self._transport.write(data)

    def get_write_buffer_size(self) -> int:
        """Bytes that the system has not taken yet."""
        return self._transport.get_write_buffer_size()

    def abort(self) -> None:
        """Close at once, and let the system forget what it still has to send."""
        connection: socket.socket = self._transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_0)
        self._transport.abort()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


async def cut_stalled(connections: Iterable[Any], timeout_s: float) -> None:
    """
    Cut, for ever, those of *connections* whose clients take nothing for *timeout_s*.

    Args:
        connections: Those that are open now, each a `Connection`.

    """
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(timeout_s / _CHECKS_PER_TIMEOUT)
        num_cut = sum(
            connection.cut_if_stalled(loop.time(), timeout_s) for connection in list(connections)
        )
        if num_cut:
            log.info("clients_did_not_read", num_cut=num_cut)
