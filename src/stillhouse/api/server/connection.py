"""One client's connection: one request after the other, within bounds of bytes and of time."""

from __future__ import annotations

import asyncio
import socket
import struct
from dataclasses import dataclass
from typing import Protocol, cast

from starlette.types import ASGIApp

from stillhouse.api.server.answer_head import refusal
from stillhouse.api.server.connections import Address, Connections
from stillhouse.api.server.exchange import Exchange, scope_of
from stillhouse.api.server.head import HEAD_END, HeadBounds, read_head, too_large
from stillhouse.api.server.request_framing import ChunkedBody, SizedBody
from stillhouse.errors import HeadTooSlowError, MalformedRequestError, RequestError, StillhouseError

#: The most that one read brings; it bounds how long one connection keeps the others waiting.
_READ_BYTES = 64 << 10
#: Chunks may have a byte each, and cost a thousand times as much.
_CHUNKED_READ_BYTES = 8 << 10
#: Of a body that the application does not take.
_UNREAD_BYTES = 64 << 10
#: Of requests sent ahead. While there is room, it is seen when the client leaves.
_AHEAD_BYTES = 8 << 10
#: A client that still sends could otherwise be reset before it has read why (RFC 9112, 9.6).
_LINGER_S = 2.0
_LINGER_BYTES = 4 << 20
_LINGER_0 = struct.pack("ii", 1, 0)
_NEVER = float("inf")

#: All connections read into it, one at a time: only what has to wait is kept by each.
_READ = memoryview(bytearray(_READ_BYTES))


@dataclass(frozen=True, slots=True)
class Patience:
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


class Host(Protocol):
    """What a connection needs of its server."""

    app: ASGIApp
    bounds: HeadBounds
    patience: Patience
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
    the end       `_is_ending`                  is thrown away
    ============  ============================  ==================================

    Nothing beyond a request is looked at before its answer is written and has room. Whoever is to
    wait is not read from (`_mind_reading`), so that at most a few KiB wait here.
    """

    __slots__ = (
        "_body",
        "_client",
        "_deadline_s",
        "_exchange",
        "_has_begun",
        "_held",
        "_host",
        "_is_ahead",
        "_is_ending",
        "_is_paused",
        "_num_linger_bytes",
        "_num_searched",
        "_num_taken",
        "_num_written",
        "_room",
        "_taken_at_s",
        "_transport",
        "address",
        "is_full",
    )

    address: Address

    def __init__(self, host: Host) -> None:
        self._host = host
        self._client: tuple[str, int] | None = None
        self._exchange: Exchange | None = None
        self._body: SizedBody | ChunkedBody | None = None
        self._held = b""
        self._num_searched = 0  # bytes of what is held in which no head ends
        self._has_begun = True  # whether the time for a head runs
        self._is_ahead = False  # whether what is held may be a whole request
        self._is_ending = self._is_paused = self.is_full = False
        self._deadline_s = _NEVER
        self._num_linger_bytes = 0  # thrown away
        self._num_written = 0
        self._num_taken, self._taken_at_s = -1, 0.0  # when it was last seen that more was taken
        self._room: asyncio.Future[None] | None = None

    # From the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, if there is a place for it."""
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        if self._host.connections.add(self, peer[0] if peer else ""):
            self._deadline_s = self._host.loop.time() + self._host.patience.head_s

    def connection_lost(self, _error: Exception | None) -> None:
        """End; a request that is at work is told."""
        self._host.connections.remove(self)
        self._is_ending = True
        self._held = b""
        if self._exchange is not None:
            self._exchange.leave()
        self._let_write()

    def get_buffer(self, _hint: int) -> memoryview:
        """Where to read to, and so how much."""
        if self._exchange is None or self._is_ending:
            return _READ
        if self._body is None:
            return _READ[: max(_AHEAD_BYTES - len(self._held), 1)]
        return _READ[:_CHUNKED_READ_BYTES] if isinstance(self._body, ChunkedBody) else _READ

    def buffer_updated(self, num_bytes: int) -> None:
        """Take what was read."""
        if self._is_ending:
            self._throw_away(num_bytes)
            return
        data = bytes(_READ[:num_bytes])
        if self._body is not None:
            self._take_body(data)
        elif self._exchange is None:
            self._take_head(data)
        else:
            self._held += data
        self._mind_reading()

    def eof_received(self) -> bool:
        """Close: a client that sends no more is taken to have left."""
        return False

    def pause_writing(self) -> None:
        """Let the writer wait."""
        self.is_full = True
        self._mind_reading()

    def resume_writing(self) -> None:
        """Let the writer go on."""
        self._let_write()
        self._go_on()

    def _let_write(self) -> None:
        self.is_full = False
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    # A request's head and body.

    def _take_head(self, data: bytes) -> None:
        # An empty line before a request is an old client's (RFC 9112, section 2.2).
        held = self._held + data if self._held else data
        if not self._num_searched:
            held = held.lstrip(b"\r\n")
        if not self._has_begun:
            self._has_begun = True
            self._deadline_s = self._host.loop.time() + self._host.patience.head_s
        max_bytes = self._host.bounds.max_bytes
        end = held.find(HEAD_END, self._num_searched, max_bytes)
        if end < 0:
            self._held = held
            self._num_searched = max(len(held) - len(HEAD_END) + 1, 0)
            if len(held) >= max_bytes:
                self.refuse(too_large(held, self._host.bounds))
            elif held and not held[:1].isalpha():  # such as TLS, whose client would wait for us
                self.refuse(MalformedRequestError("The request is not HTTP"))
            elif held:
                self._host.connections.hold(self, len(held))
            return
        if self._held:
            self._host.connections.hold(self, 0)
        end += len(HEAD_END)
        self._held, self._num_searched = b"", 0
        self._begin(held[:end], held[end:])

    def _begin(self, raw_head: bytes, rest: bytes) -> None:
        host = self._host
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
        host.connections.work(self)
        if self._body is None:
            self._held = rest
        elif rest:
            self._take_body(rest)
        host.start(exchange)

    def _take_body(self, data: bytes) -> None:
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
        self._held = rest
        exchange.take_body(piece, is_last=True)
        if exchange.is_answered:
            self._rest()

    # From the exchange.

    @property
    def date(self) -> bytes:
        """The header line with the time of now."""
        return self._host.date

    def write(self, data: bytes) -> None:
        """Write now, or when there is room."""
        self._num_written += len(data)
        self._transport.write(data)

    async def room(self) -> None:
        """Wait until it is not full."""
        while self.is_full:
            self._room = self._host.loop.create_future()
            await self._room

    def read_on(self) -> None:
        """Read more of the body."""
        self._mind_reading()

    def end_exchange(self, *, keeps_alive: bool) -> None:
        """Go on to the next request, or close."""
        if not keeps_alive:
            if self._body is None and not self._held:
                self._host.connections.rest(self)  # a slow reader keeps nobody out
                self._transport.close()
            else:
                self._end()
        elif self._body is None:
            self._rest()
        else:  # what is left of the body is thrown away, for as long as a head may take
            self._deadline_s = self._host.loop.time() + self._host.patience.head_s
            self._host.connections.rest(self)
            self._mind_reading()

    def refuse(self, error: StillhouseError) -> None:
        """Answer with *error*, and close; where an answer has begun, it is cut."""
        path = ""
        if self._exchange is not None:
            path = self._exchange.scope["path"]
            self._exchange.leave()
            if self._exchange.has_begun:
                self.cut()
                return
        self._host.connections.count_refusal(error)
        self.write(refusal(error, path=path, date=self._host.date))
        self._end()

    def cut(self) -> None:
        """Close, so that the client sees that its answer is not whole."""
        self._transport.close()

    # Between requests, and at the end.

    def _rest(self) -> None:
        """Wait for the next request, or begin it, if it was sent ahead."""
        self._exchange = None
        self._has_begun = False
        self._deadline_s = self._host.loop.time() + self._host.patience.idle_s
        self._host.connections.rest(self)
        if self._held:
            self._is_ahead = True
            self._host.loop.call_soon(self._go_on)  # others have a turn in between
        self._mind_reading()

    def _go_on(self) -> None:
        """Begin a request that was sent ahead, if there is one and it may."""
        if self._transport.is_closing():
            return  # for another connection, or the server ends: nobody would be answered
        if self._is_ahead and not self.is_full and not self._is_ending:
            self._is_ahead = False
            held, self._held = self._held, b""
            self._take_head(held)
        self._mind_reading()

    def _mind_reading(self) -> None:
        """Read as long as something can be done with it."""
        if self._is_ending:
            is_useful = True
        elif self._exchange is None:
            is_useful = not self.is_full and not self._is_ahead
        elif self._body is None:
            is_useful = len(self._held) < _AHEAD_BYTES
        else:
            is_useful = self._exchange.num_unread < _UNREAD_BYTES
        if is_useful is self._is_paused:
            self._is_paused = not is_useful
            if is_useful:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    def _throw_away(self, num_bytes: int) -> None:
        """Read what still comes at the end, within bounds."""
        self._num_linger_bytes += num_bytes
        if self._num_linger_bytes > _LINGER_BYTES:
            self._host.connections.close(self, "lingered")

    def _end(self) -> None:
        """Close when all is sent, and the client has read it or has had time to."""
        self._is_ending = True
        self._held = b""
        self._body = None
        self._deadline_s = self._host.loop.time() + _LINGER_S
        self._host.connections.hold(self, 0)
        self._host.connections.rest(self)
        if not self._transport.is_closing():
            self._transport.write_eof()
        self._mind_reading()

    def shut_down(self) -> None:
        """Close, now or with the answer that is being written."""
        if self._exchange is None or self._exchange.is_answered:
            self._transport.close()
        else:
            self._exchange.keeps_alive = False

    # From the server, now and then.

    def look(self, now_s: float) -> bool:
        """Close it if its time is over; say whether it was cut because its client did not read."""
        if self._is_stalled(now_s):
            if self._exchange is not None:
                self._exchange.leave(is_stalled=True)
            self._host.connections.close(self, "stalled")
            return True
        if now_s >= self._deadline_s:
            self._time_is_over()
        return False

    def _is_stalled(self, now_s: float) -> bool:
        """Whether something is ready, and nothing of it was taken for too long."""
        num_waiting = self._transport.get_write_buffer_size()
        num_taken = self._num_written - num_waiting
        if num_waiting == 0 or num_taken != self._num_taken:
            self._num_taken, self._taken_at_s = num_taken, now_s
            return False
        return now_s - self._taken_at_s >= self._host.patience.stall_s

    def _time_is_over(self) -> None:
        connections = self._host.connections
        self._deadline_s = _NEVER
        if self._is_ending and self._transport.get_write_buffer_size():
            self._deadline_s = self._host.loop.time() + _LINGER_S  # it reads, if slowly
        elif self._is_ending:
            connections.close(self, "lingered")
        elif self._exchange is not None:
            connections.close(self, "body_timeout")
        elif not self._has_begun:
            connections.count("idle_timeout")
            self._transport.close()
        elif self._held:
            allowed_s = self._host.patience.head_s
            self.refuse(HeadTooSlowError(f"The request's head did not come within {allowed_s:g} s"))
        else:
            connections.close(self, "head_timeout")

    def abort(self) -> None:
        """Close at once, and let the system forget what it still has to send."""
        connection: socket.socket = self._transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_0)
        self._transport.abort()
