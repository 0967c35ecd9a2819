"""One request and its response in ASGI's form: a scope, `receive` and `send`."""

from __future__ import annotations

import asyncio
from typing import Protocol

import structlog
from starlette.types import ASGIApp, Message, Scope

from stillhouse.api.server.head import Head
from stillhouse.api.server.response_head import Framing, ResponseHead, response_head
from stillhouse.errors import ServingError, StillhouseError

log = structlog.get_logger()

#: Set in the scope of a request whose connection was closed because its client did not read.
STALLED = "stillhouse.stalled"

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_ASGI = {"version": "3.0", "spec_version": "2.3"}


class ClientConnection(Protocol):
    """The part of a connection that an exchange uses."""

    is_full: bool

    @property
    def date(self) -> bytes:
        """The Date header line."""
        ...

    def write(self, data: bytes) -> None:
        """Writes *data*, or buffers it until there is room."""
        ...

    async def wait_writable(self) -> None:
        """Waits until the write buffer has room."""
        ...

    def resume_body(self) -> None:
        """Reads more of the body: the application has received what was buffered."""
        ...

    def end_exchange(self, *, keeps_alive: bool) -> None:
        """Continues with the next request, or closes: the response is written."""
        ...

    def refuse(self, error: StillhouseError) -> None:
        """Responds with *error* and closes."""
        ...

    def close(self) -> None:
        """Closes after what was written, so that the client sees an incomplete response."""
        ...


class Exchange:
    """
    Runs the application on one request.

    Attributes:
        is_responseed: The whole response is written.
        is_disconnected: The client has disconnected.
        keeps_alive: The connection can be used again; False makes this request the last.
        num_buffered: Bytes of the body that the application has not received.

    """

    __slots__ = (
        "_awaits_continue",
        "_connection",
        "_has_sent_end",
        "_has_whole_body",
        "_num_left",
        "_pieces",
        "_response",
        "_unsent_head",
        "_waiter",
        "is_disconnected",
        "is_responseed",
        "keeps_alive",
        "num_buffered",
        "scope",
    )

    def __init__(self, connection: ClientConnection, head: Head, scope: Scope) -> None:
        self._connection = connection
        self.scope = scope
        self.keeps_alive = head.keeps_alive
        self.is_responseed = self.is_disconnected = False
        self._awaits_continue = head.awaits_continue
        self._pieces: list[bytes] = []
        self.num_buffered = 0
        self._has_whole_body = head.body is None
        self._has_sent_end = False
        self._waiter: asyncio.Future[None] | None = None
        self._response: ResponseHead | None = None
        self._unsent_head = b""
        self._num_left = 0

    async def run(self, app: ASGIApp) -> None:
        """Runs *app*; if it does not finish its response, the client gets an error."""
        try:
            await app(self.scope, self.receive, self.send)
        except Exception:
            log.exception("response_failed", path=self.scope["path"])
        finally:
            self._end()

    def _end(self) -> None:
        if self.is_responseed or self.is_disconnected:
            return
        if self.has_begun:
            self._connection.close()
        else:
            self._connection.refuse(ServingError("Internal error"))

    @property
    def has_begun(self) -> bool:
        """Whether a part of the response has been written."""
        return self._response is not None and not self._unsent_head

    def take_body(self, piece: bytes, *, is_last: bool) -> None:
        """Buffers a piece of the body for the application."""
        self._has_whole_body = is_last
        if self.is_responseed or self.is_disconnected:
            return  # the application does not need it
        if piece:
            self._pieces.append(piece)
            self.num_buffered += len(piece)
        self._wake()

    def disconnect(self, *, is_stalled: bool = False) -> None:
        """Tells the application that its client has disconnected."""
        if self.is_responseed or self.is_disconnected:
            return
        if is_stalled:
            self.scope[STALLED] = True
        self.is_disconnected = True
        self._discard_body()

    async def receive(self) -> Message:
        """Returns the next piece of the body, then waits for the disconnect; one task may wait."""
        while not (self.is_responseed or self.is_disconnected):
            if self._pieces or (self._has_whole_body and not self._has_sent_end):
                return self._take_pieces()
            if self._awaits_continue and not self._has_whole_body and self._response is None:
                self._connection.write(_CONTINUE)
            self._awaits_continue = False
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return {"type": "http.disconnect"}

    def _take_pieces(self) -> Message:
        body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self.num_buffered = 0
        self._has_sent_end = self._has_whole_body
        if not self._has_sent_end:
            self._connection.resume_body()
        return {"type": "http.request", "body": body, "more_body": not self._has_sent_end}

    def _discard_body(self) -> None:
        self._pieces.clear()
        self.num_buffered = 0
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def send(self, message: Message) -> None:
        """
        Sends the head or a piece of the response; returns once the connection had room for it.

        Raises:
            RuntimeError: It is out of order.

        """
        if self._connection.is_full and not self.is_disconnected:
            await self._connection.wait_writable()
        if self.is_disconnected:
            return
        if self.is_responseed:
            raise RuntimeError(f"{message['type']} was sent after the end of a response")
        if message["type"] == "http.response.start":
            self._begin(message)
        else:
            self._write(message.get("body", b""), is_last=not message.get("more_body", False))

    def _begin(self, message: Message) -> None:
        if self._response is not None:
            raise RuntimeError("http.response.start was sent twice")
        self._response = response_head(
            message["status"],
            message.get("headers", ()),
            method=self.scope["method"],
            version=self.scope["http_version"],
            keeps_alive=self.keeps_alive,
            date=self._connection.date,
        )
        self._unsent_head = self._response.raw  # written together with the first piece of the body
        self._num_left = self._response.num_bytes

    def _write(self, body: bytes, *, is_last: bool) -> None:
        response = self._response
        if response is None:
            raise RuntimeError("http.response.body was sent before http.response.start")
        framed = self._framed(response.framing, body, is_last=is_last)
        if framed or self._unsent_head:
            self._connection.write(self._unsent_head + framed if self._unsent_head else framed)
            self._unsent_head = b""
        if is_last:
            self.is_responseed = True
            self._discard_body()
            self._connection.end_exchange(keeps_alive=self.keeps_alive and response.keeps_alive)

    def _framed(self, framing: Framing, body: bytes, *, is_last: bool) -> bytes:
        if framing is Framing.CHUNKS:
            last = b"0\r\n\r\n" if is_last else b""
            return b"%x\r\n%b\r\n%b" % (len(body), body, last) if body else last
        if framing is Framing.CLOSE:
            return body
        if framing is Framing.NO_BODY:
            return b""
        self._num_left -= len(body)
        if self._num_left < 0 or (is_last and self._num_left):
            raise RuntimeError(f"a body is {-self._num_left} bytes longer than its content-length")
        return body


def scope_of(head: Head, *, client: object, server: object) -> Scope:
    """Returns the ASGI scope of a request."""
    return {
        "type": "http",
        "asgi": _ASGI,
        "http_version": head.version,
        "scheme": "http",
        "method": head.method,
        "path": head.path,
        "raw_path": head.raw_path,
        "query_string": head.query,
        "root_path": "",
        "headers": head.headers,
        "client": client,
        "server": server,
    }
