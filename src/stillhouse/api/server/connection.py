"""One client's connection: one request after the other, within bounds of bytes and of time."""

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

#: The most that one read brings; it bounds how long one connection keeps the others waiting.
_READ_BYTES = 64 << 10
#: Chunks may have a byte each, and cost a thousand times as much.
_CHUNKED_READ_BYTES = 8 << 10
#: Of a body that the application does not take.
_BODY_BUFFER_BYTES = 64 << 10
#: Of requests sent ahead. While there is room, it is seen when the client leaves.
_PIPELINED_BYTES = 8 << 10
#: A client that still sends could otherwise be reset before it has read why (RFC 9112, 9.6).
_LINGER_S = 2.0
_LINGER_BYTES = 4 << 20
_LINGER_0 = struct.pack("ii", 1, 0)
_NEVER = float("inf")

#: All connections read into it, one at a time: only what has to wait is kept by each.
_READ = memoryview(bytearray(_READ_BYTES))


@dataclass(frozen=True, slots=True)
class Timeouts:
    """
    How long a client may take, in seconds.

    Args:
        head_s: From its connection, or a later request's first byte, to the end of the head.
        idle_s: From an answer to the next request.
        stall_s: To take any of what is ready for it.

    """

    head_s: float = 10
    idle_s: float = 75
    stall_s: float = 30


class ServerState(Protocol):
    """What a connection needs of its server."""

    app: ASGIApp
    bounds: HeadBounds
    timeouts: Timeouts
    connections: Connections
    is_closing: bool
    date: bytes
    address: object
    loop: asyncio.AbstractEventLoop

    def start(self, exchange: Exchange) -> None:
        """Let the application answer."""
        ...


class Connection(asyncio.BufferedProtocol):
    """
    HTTP/1.1 with one client.

    It is in one of four states, and what it reads goes where that state says:

    ============  ============================  ==================================
    state         is known by                   what is read
    ============  ============================  ==================================
    a head comes  no exchange                   is held, until the head is whole
    a body comes  an exchange and a body        goes to the exchange
    an answer     an exchange, its body over    is held: the next requests, a few
    the end       `_is_lingering`                  is thrown away
    ============  ============================  ==================================

    Nothing beyond a request is looked at before its answer is written and has room. Whoever is to
    wait is not read from (`_update_reading`), so that at most a few KiB wait here.
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

    def __init__(self, host: ServerState) -> None:
        self._server = host
        self._client: tuple[str, int] | None = None
        self._exchange: Exchange | None = None
        self._body: SizedBody | ChunkedBody | None = None
        self._buffered = b""
        self._num_searched = 0  # bytes of what is held in which no head ends
        self._has_first_byte = True  # whether the time for a head runs
        self._has_pipelined = False  # whether what is held may be a whole request
        self._is_lingering = self._is_paused = self.is_full = False
        self._deadline_s = _NEVER
        self._num_linger_bytes = 0  # thrown away
        self._num_written = 0
        self._num_sent, self._sent_at_s = -1, 0.0  # when it was last seen that more was taken
        self._writable: asyncio.Future[None] | None = None

    # From the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, if there is a place for it."""
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        if self._server.connections.add(self, peer[0] if peer else ""):
            self._deadline_s = self._server.loop.time() + self._server.timeouts.head_s

    def connection_lost(self, _error: Exception | None) -> None:
        """End; a request that is at work is told."""
        self._server.connections.remove(self)
        self._is_lingering = True
        self._buffered = b""
        if self._exchange is not None:
            self._exchange.disconnect()
        self._release_writer()

    def get_buffer(self, _hint: int) -> memoryview:
        """Where to read to, and so how much."""
        if self._exchange is None or self._is_lingering:
            return _READ
        if self._body is None:
            return _READ[: max(_PIPELINED_BYTES - len(self._buffered), 1)]
        return _READ[:_CHUNKED_READ_BYTES] if isinstance(self._body, ChunkedBody) else _READ

    def buffer_updated(self, num_bytes: int) -> None:
        """Take what was read."""
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
        """Close: a client that sends no more is taken to have left."""
        return False

    def pause_writing(self) -> None:
        """Let the writer wait."""
        self.is_full = True
        self._update_reading()

    def resume_writing(self) -> None:
        """Let the writer go on."""
        self._release_writer()
        self._begin_pipelined()

    def _release_writer(self) -> None:
        self.is_full = False
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)

    # A request's head and body.

    def _feed_head(self, data: bytes) -> None:
        # An empty line before a request is an old client's (RFC 9112, section 2.2).
        held = self._buffered + data if self._buffered else data
        if not self._num_searched:
            held = held.lstrip(b"\r\n")
        if not self._has_first_byte:
            self._has_first_byte = True
            self._deadline_s = self._server.loop.time() + self._server.timeouts.head_s
        max_bytes = self._server.bounds.max_bytes
        end = held.find(HEAD_END, self._num_searched, max_bytes)
        if end < 0:
            self._buffered = held
            self._num_searched = max(len(held) - len(HEAD_END) + 1, 0)
            if len(held) >= max_bytes:
                self.refuse(too_large(held, self._server.bounds))
            elif held and not held[:1].isalpha():  # such as TLS, whose client would wait for us
                self.refuse(MalformedRequestError("The request is not HTTP"))
            elif held:
                self._server.connections.note_buffered(self, len(held))
            return
        if self._buffered:
            self._server.connections.note_buffered(self, 0)
        end += len(HEAD_END)
        self._buffered, self._num_searched = b"", 0
        self._begin(held[:end], held[end:])

    def _begin(self, raw_head: bytes, rest: bytes) -> None:
        host = self._server
        try:
            head = read_head(raw_head, host.bounds)
        except RequestError as error:
            self.refuse(error)
            return
        if self._client is None:
            peer = self._transport.get_extra_info("peername")
            self._client = peer and peer[:2]
        exchange = Exchange(self, head, scope_of(head, client=self._client, server=host.address))
        if host.is_closing:
            exchange.keeps_alive = False
        self._exchange = exchange
        self._body = head.body
        self._deadline_s = _NEVER
        host.connections.mark_active(self)
        if self._body is None:
            self._buffered = rest
        elif rest:
            self._feed_body(rest)
        host.start(exchange)

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
        if exchange.is_answered:
            self._await_request()

    # From the exchange.

    @property
    def date(self) -> bytes:
        """The header line with the time of now."""
        return self._server.date

    def write(self, data: bytes) -> None:
        """Write now, or when there is room."""
        self._num_written += len(data)
        self._transport.write(data)

    async def wait_writable(self) -> None:
        """Wait until it is not full."""
        while self.is_full:
            self._writable = self._server.loop.create_future()
            await self._writable

    def resume_body(self) -> None:
        """Read more of the body."""
        self._update_reading()

    def end_exchange(self, *, keeps_alive: bool) -> None:
        """Go on to the next request, or close."""
        if not keeps_alive:
            if self._body is None and not self._buffered:
                self._server.connections.mark_idle(self)  # a slow reader keeps nobody out
                self._transport.close()
            else:
                self._end()
        elif self._body is None:
            self._await_request()
        else:  # what is left of the body is thrown away, for as long as a head may take
            self._deadline_s = self._server.loop.time() + self._server.timeouts.head_s
            self._server.connections.mark_idle(self)
            self._update_reading()

    def refuse(self, error: StillhouseError) -> None:
        """Answer with *error*, and close; where an answer has begun, it is cut."""
        path = ""
        if self._exchange is not None:
            path = self._exchange.scope["path"]
            self._exchange.disconnect()
            if self._exchange.has_begun:
                self.close()
                return
        self._server.connections.count_refusal(error)
        self.write(refusal(error, path=path, date=self._server.date))
        self._end()

    def close(self) -> None:
        """Close, so that the client sees that its answer is not whole."""
        self._transport.close()

    # Between requests, and at the end.

    def _await_request(self) -> None:
        """Wait for the next request, or begin it, if it was sent ahead."""
        self._exchange = None
        self._has_first_byte = False
        self._deadline_s = self._server.loop.time() + self._server.timeouts.idle_s
        self._server.connections.mark_idle(self)
        if self._buffered:
            self._has_pipelined = True
            self._server.loop.call_soon(self._begin_pipelined)  # others have a turn in between
        self._update_reading()

    def _begin_pipelined(self) -> None:
        """Begin a request that was sent ahead, if there is one and it may."""
        if self._transport.is_closing():
            return  # for another connection, or the server ends: nobody would be answered
        if self._has_pipelined and not self.is_full and not self._is_lingering:
            self._has_pipelined = False
            held, self._buffered = self._buffered, b""
            self._feed_head(held)
        self._update_reading()

    def _update_reading(self) -> None:
        """Read as long as something can be done with it."""
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
        """Read what still comes at the end, within bounds."""
        self._num_linger_bytes += num_bytes
        if self._num_linger_bytes > _LINGER_BYTES:
            self._server.connections.close(self, "lingered")

    def _end(self) -> None:
        """Close when all is sent, and the client has read it or has had time to."""
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
        """Close, now or with the answer that is being written."""
        if self._exchange is None or self._exchange.is_answered:
            self._transport.close()
        else:
            self._exchange.keeps_alive = False

    # From the server, now and then.

    def check_deadlines(self, now_s: float) -> bool:
        """Close it if its time is over; say whether it was cut because its client did not read."""
        if self._is_stalled(now_s):
            if self._exchange is not None:
                self._exchange.disconnect(is_stalled=True)
            self._server.connections.close(self, "stalled")
            return True
        if now_s >= self._deadline_s:
            self._on_deadline()
        return False

    def _is_stalled(self, now_s: float) -> bool:
        """Whether something is ready, and nothing of it was taken for too long."""
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
            self._deadline_s = self._server.loop.time() + _LINGER_S  # it reads, if slowly
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
        """Close at once, and let the system forget what it still has to send."""
        connection: socket.socket = self._transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_0)
        self._transport.abort()
