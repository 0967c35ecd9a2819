"""One client's connection: serves its requests in order, within bounds of bytes and time."""

from __future__ import annotations

import asyncio
import socket
import struct
from dataclasses import dataclass
from typing import Protocol, cast

from starlette.types import ASGIApp

from stillhouse.api.server.connections import Address, Connections
from stillhouse.api.server.exchange import Exchange, scope_of
from stillhouse.api.server.head import HEAD_END, HeadBounds, read_head, too_large
from stillhouse.api.server.request_framing import ChunkedBody, SizedBody
from stillhouse.api.server.response_head import refusal
from stillhouse.errors import HeadTooSlowError, MalformedRequestError, RequestError, StillhouseError

#: Most bytes of one read; it bounds how long one connection delays the others.
_READ_BYTES = 64 << 10
#: The same of a chunked body: chunks of one byte cost a thousand times as much.
_CHUNKED_READ_BYTES = 8 << 10
#: Most buffered bytes of a body that the application has not received.
_BODY_BUFFER_BYTES = 64 << 10
#: Most bytes of pipelined requests. While there is room, a disconnect is noticed.
_PIPELINED_BYTES = 8 << 10
#: A client that still sends could otherwise be reset before it reads the error (RFC 9112, 9.6).
_LINGER_S = 2.0
_LINGER_BYTES = 4 << 20
_LINGER_0 = struct.pack("ii", 1, 0)
_NEVER = float("inf")

#: The read buffer that all connections share; each copies only what it keeps.
_READ = memoryview(bytearray(_READ_BYTES))


@dataclass(frozen=True, slots=True)
class Timeouts:
    """
    How long a client may take, in seconds.

    Args:
        head_s: From connecting, or a later request's first byte, to the end of the head.
        idle_s: From a response to the next request.
        stall_s: To read any of the bytes that are ready for it.

    """

    head_s: float = 10
    idle_s: float = 75
    stall_s: float = 30


class ServerState(Protocol):
    """The part of the server that a connection uses."""

    app: ASGIApp
    bounds: HeadBounds
    timeouts: Timeouts
    connections: Connections
    is_closing: bool
    date: bytes
    address: object
    loop: asyncio.AbstractEventLoop

    def start(self, exchange: Exchange) -> None:
        """Runs the application on a request."""
        ...


class Connection(asyncio.BufferedProtocol):
    """
    Serves HTTP/1.1 to one client.

    It is in one of four states, which determines what it does with bytes that it reads:

    =================  ============================  =============================
    state              condition                     bytes read
    =================  ============================  =============================
    awaiting a head    no exchange                   are buffered until its end
    receiving a body   an exchange and a body        go to the exchange
    responding         an exchange, its body over    are buffered: pipelined requests
    lingering          `_is_lingering`               are discarded
    =================  ============================  =============================

    A pipelined request is parsed only after the response before it is written and the client has
    read most of it. A connection that has to wait is not read from (`_update_reading`), so that it
    buffers at most a few KiB. Its many methods are the callbacks of asyncio, of the table of
    connections and of the exchange, and the transitions between the four states, which all share
    its fields.
    """

    __slots__ = (
        "_body",
        "_buffered",
        "_client",
        "_deadline_s",
        "_exchange",
        "_has_first_byte",
        "_has_pipelined",
        "_is_lingering",
        "_is_paused",
        "_num_linger_bytes",
        "_num_searched",
        "_num_sent",
        "_num_written",
        "_sent_at_s",
        "_server",
        "_transport",
        "_writable",
        "address",
        "is_full",
    )

    address: Address

    def __init__(self, server: ServerState) -> None:
        self._server = server
        self._client: tuple[str, int] | None = None
        self._exchange: Exchange | None = None
        self._body: SizedBody | ChunkedBody | None = None
        self._buffered = b""
        self._num_searched = 0  # buffered bytes in which no head ends
        self._has_first_byte = True  # whether the head's timeout runs
        self._has_pipelined = False  # whether the buffer may have a whole request
        self._is_lingering = self._is_paused = self.is_full = False
        self._deadline_s = _NEVER
        self._num_linger_bytes = 0  # discarded
        self._num_written = 0
        self._num_sent, self._sent_at_s = -1, 0.0  # when the client was last seen to read
        self._writable: asyncio.Future[None] | None = None

    # Callbacks of the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Registers the connection, unless the table is full."""
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        if self._server.connections.add(self, peer[0] if peer else ""):
            self._deadline_s = self._server.loop.time() + self._server.timeouts.head_s

    def connection_lost(self, _error: Exception | None) -> None:
        """Ends the connection and its running request."""
        self._server.connections.remove(self)
        self._is_lingering = True
        self._buffered = b""
        if self._exchange is not None:
            self._exchange.disconnect()
        self._release_writer()

    def get_buffer(self, _hint: int) -> memoryview:
        """Returns the buffer for the next read, which bounds its size."""
        if self._exchange is None or self._is_lingering:
            return _READ
        if self._body is None:
            return _READ[: max(_PIPELINED_BYTES - len(self._buffered), 1)]
        return _READ[:_CHUNKED_READ_BYTES] if isinstance(self._body, ChunkedBody) else _READ

    def buffer_updated(self, num_bytes: int) -> None:
        """Handles bytes that were read."""
        if self._is_lingering:
            self._discard(num_bytes)
            return
        data = bytes(_READ[:num_bytes])
        if self._body is not None:
            self._feed_body(data)
        elif self._exchange is None:
            self._feed_head(data)
        else:
            self._buffered += data
        self._update_reading()

    def eof_received(self) -> bool:
        """Closes the connection: a half-closed client counts as disconnected."""
        return False

    def pause_writing(self) -> None:
        """Makes the exchange wait before it writes more."""
        self.is_full = True
        self._update_reading()

    def resume_writing(self) -> None:
        """Lets the exchange write again."""
        self._release_writer()
        self._begin_pipelined()

    def _release_writer(self) -> None:
        self.is_full = False
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)

    # Parsing of a request's head and body.

    def _feed_head(self, data: bytes) -> None:
        # Old clients send an empty line before a request (RFC 9112, section 2.2).
        buffered = self._buffered + data if self._buffered else data
        if not self._num_searched:
            buffered = buffered.lstrip(b"\r\n")
        if not self._has_first_byte:
            self._has_first_byte = True
            self._deadline_s = self._server.loop.time() + self._server.timeouts.head_s
        max_bytes = self._server.bounds.max_bytes
        end = buffered.find(HEAD_END, self._num_searched, max_bytes)
        if end < 0:
            self._buffered = buffered
            self._num_searched = max(len(buffered) - len(HEAD_END) + 1, 0)
            if len(buffered) >= max_bytes:
                self.refuse(too_large(buffered, self._server.bounds))
            elif buffered and not buffered[:1].isalpha():  # such as TLS, whose client would wait
                self.refuse(MalformedRequestError("The request is not HTTP"))
            elif buffered:
                self._server.connections.note_buffered(self, len(buffered))
            return
        if self._buffered:
            self._server.connections.note_buffered(self, 0)
        end += len(HEAD_END)
        self._buffered, self._num_searched = b"", 0
        self._begin(buffered[:end], buffered[end:])

    def _begin(self, raw_head: bytes, rest: bytes) -> None:
        server = self._server
        try:
            head = read_head(raw_head, server.bounds)
        except RequestError as error:
            self.refuse(error)
            return
        if self._client is None:
            peer = self._transport.get_extra_info("peername")
            self._client = peer and peer[:2]
        exchange = Exchange(self, head, scope_of(head, client=self._client, server=server.address))
        if server.is_closing:
            exchange.keeps_alive = False
        self._exchange = exchange
        self._body = head.body
        self._deadline_s = _NEVER
        server.connections.mark_active(self)
        if self._body is None:
            self._buffered = rest
        elif rest:
            self._feed_body(rest)
        server.start(exchange)

    def _feed_body(self, data: bytes) -> None:
        exchange, body = self._exchange, self._body
        assert exchange is not None
        assert body is not None
        try:
            piece, rest = body.take(data)
        except MalformedRequestError as error:
            self.refuse(error)
            return
        if not body.is_over:
            exchange.take_body(piece, is_last=False)
            return
        self._body = None
        self._buffered = rest
        exchange.take_body(piece, is_last=True)
        if exchange.is_responseed:
            self._await_request()

    # Methods for the exchange.

    @property
    def date(self) -> bytes:
        """The Date header line."""
        return self._server.date

    def write(self, data: bytes) -> None:
        """Writes *data*, or buffers it until there is room."""
        self._num_written += len(data)
        self._transport.write(data)

    async def wait_writable(self) -> None:
        """Waits until the write buffer has room."""
        while self.is_full:
            self._writable = self._server.loop.create_future()
            await self._writable

    def resume_body(self) -> None:
        """Reads more of the body."""
        self._update_reading()

    def end_exchange(self, *, keeps_alive: bool) -> None:
        """Continues with the next request, or closes."""
        if not keeps_alive:
            if self._body is None and not self._buffered:
                self._server.connections.mark_idle(self)  # it may be closed in favour of a new one
                self._transport.close()
            else:
                self._linger()
        elif self._body is None:
            self._await_request()
        else:  # the rest of the body is discarded, within the head's timeout
            self._deadline_s = self._server.loop.time() + self._server.timeouts.head_s
            self._server.connections.mark_idle(self)
            self._update_reading()

    def refuse(self, error: StillhouseError) -> None:
        """Responds with *error* and closes; a response that has started is cut off."""
        path = ""
        if self._exchange is not None:
            path = self._exchange.scope["path"]
            self._exchange.disconnect()
            if self._exchange.has_begun:
                self.close()
                return
        self._server.connections.count_refusal(error)
        self.write(refusal(error, path=path, date=self._server.date))
        self._linger()

    def close(self) -> None:
        """Closes after what was written, so that the client sees an incomplete response."""
        self._transport.close()

    # Transitions between requests, and at the end.

    def _await_request(self) -> None:
        """Waits for the next request, or starts it if it was pipelined."""
        self._exchange = None
        self._has_first_byte = False
        self._deadline_s = self._server.loop.time() + self._server.timeouts.idle_s
        self._server.connections.mark_idle(self)
        if self._buffered:
            self._has_pipelined = True
            self._server.loop.call_soon(self._begin_pipelined)  # other connections run in between
        self._update_reading()

    def _begin_pipelined(self) -> None:
        """Starts a pipelined request, if there is one and the state allows it."""
        if self._transport.is_closing():
            return  # in favour of another, or by a shutdown: a response would be lost
        if self._has_pipelined and not self.is_full and not self._is_lingering:
            self._has_pipelined = False
            buffered, self._buffered = self._buffered, b""
            self._feed_head(buffered)
        self._update_reading()

    def _update_reading(self) -> None:
        """Reads only while the bytes can be used."""
        if self._is_lingering:
            is_useful = True
        elif self._exchange is None:
            is_useful = not self.is_full and not self._has_pipelined
        elif self._body is None:
            is_useful = len(self._buffered) < _PIPELINED_BYTES
        else:
            is_useful = self._exchange.num_buffered < _BODY_BUFFER_BYTES
        if is_useful is self._is_paused:
            self._is_paused = not is_useful
            if is_useful:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    def _discard(self, num_bytes: int) -> None:
        """Discards bytes at the end, within bounds."""
        self._num_linger_bytes += num_bytes
        if self._num_linger_bytes > _LINGER_BYTES:
            self._server.connections.close(self, "lingered")

    def _linger(self) -> None:
        """Closes once everything is sent, and the client has read it or had the time to."""
        self._is_lingering = True
        self._buffered = b""
        self._body = None
        self._deadline_s = self._server.loop.time() + _LINGER_S
        self._server.connections.note_buffered(self, 0)
        self._server.connections.mark_idle(self)
        if not self._transport.is_closing():
            self._transport.write_eof()
        self._update_reading()

    def shut_down(self) -> None:
        """Closes at once, or after the current response."""
        if self._exchange is None or self._exchange.is_responseed:
            self._transport.close()
        else:
            self._exchange.keeps_alive = False

    # Checks by the server.

    def check_deadlines(self, now_s: float) -> bool:
        """Closes the connection if it timed out; returns whether its client did not read."""
        if self._is_stalled(now_s):
            if self._exchange is not None:
                self._exchange.disconnect(is_stalled=True)
            self._server.connections.close(self, "stalled")
            return True
        if now_s >= self._deadline_s:
            self._on_deadline()
        return False

    def _is_stalled(self, now_s: float) -> bool:
        """Returns whether the client has read nothing of the ready bytes for too long."""
        num_waiting = self._transport.get_write_buffer_size()
        num_taken = self._num_written - num_waiting
        if num_waiting == 0 or num_taken != self._num_sent:
            self._num_sent, self._sent_at_s = num_taken, now_s
            return False
        return now_s - self._sent_at_s >= self._server.timeouts.stall_s

    def _on_deadline(self) -> None:
        connections = self._server.connections
        self._deadline_s = _NEVER
        if self._is_lingering and self._transport.get_write_buffer_size():
            self._deadline_s = self._server.loop.time() + _LINGER_S  # it still reads, if slowly
        elif self._is_lingering:
            connections.close(self, "lingered")
        elif self._exchange is not None:
            connections.close(self, "body_timeout")
        elif not self._has_first_byte:
            connections.count("idle_timeout")
            self._transport.close()
        elif self._buffered:
            allowed_s = self._server.timeouts.head_s
            self.refuse(HeadTooSlowError(f"The request's head did not come within {allowed_s:g} s"))
        else:
            connections.close(self, "head_timeout")

    def abort(self) -> None:
        """Resets the connection; bytes that are not sent yet are dropped."""
        connection: socket.socket = self._transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_0)
        self._transport.abort()
