"""One request and its answer, as ASGI has them: a scope, `receive` and `send`."""

from __future__ import annotations

import asyncio
from typing import Protocol

import structlog
from starlette.types import ASGIApp, Message, Scope

from stillhouse.api.server.head import Head
from stillhouse.api.server.response_head import Framing, ResponseHead, response_head
from stillhouse.errors import ServingError, StillhouseError

log = structlog.get_logger()

#: In a request's scope from when its connection was cut because its client did not read.
STALLED = "stillhouse.stalled"

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_ASGI = {"version": "3.0", "spec_version": "2.3"}


class Line(Protocol):
    """What an exchange needs of its connection."""

    is_full: bool

    @property
    def date(self) -> bytes:
        """The header line with the time of now."""
        ...

    def write(self, data: bytes) -> None:
        """Write now, or when there is room."""
        ...

    async def wait_writable(self) -> None:
        """Wait until it is not full."""
        ...

    def resume_body(self) -> None:
        """Read more of the body: the application has taken what was read before."""
        ...

    def end_exchange(self, *, keeps_alive: bool) -> None:
        """Go on to the next request, or close: the answer is written."""
        ...

    def refuse(self, error: StillhouseError) -> None:
        """Answer with *error*, and close."""
        ...

    def close(self) -> None:
        """Close, so that the client sees that its answer is not whole."""
        ...


class Exchange:
    """
    A request at work.

    Attributes:
        is_answered: The whole answer is written.
        is_disconnected: Its client does not wait for an answer any more.
        keeps_alive: The connection can be used again; set to False, it makes this request the last.
        num_buffered: Bytes of the body that the application has not taken.

    """

    __slots__ = (
        "_answer",
        "_awaits_continue",
        "_has_sent_end",
        "_has_whole_body",
        "_line",
        "_num_left",
        "_pieces",
        "_unsent_head",
        "_waiter",
        "is_answered",
        "is_disconnected",
        "keeps_alive",
        "num_buffered",
        "scope",
    )

    def __init__(self, line: Line, head: Head, scope: Scope) -> None:
        self._line = line
        self.scope = scope
        self.keeps_alive = head.keeps_alive
        self.is_answered = self.is_disconnected = False
        self._awaits_continue = head.awaits_continue
        self._pieces: list[bytes] = []
        self.num_buffered = 0
        self._has_whole_body = head.body is None
        self._has_sent_end = False
        self._waiter: asyncio.Future[None] | None = None
        self._answer: ResponseHead | None = None
        self._unsent_head = b""
        self._num_left = 0

    async def run(self, app: ASGIApp) -> None:
        """Let *app* answer; where it does not do so to the end, the client is told."""
        try:
            await app(self.scope, self.receive, self.send)
        except Exception:
            log.exception("answer_failed", path=self.scope["path"])
        finally:
            self._end()

    def _end(self) -> None:
        if self.is_answered or self.is_disconnected:
            return
        if self.has_begun:
            self._line.close()
        else:
            self._line.refuse(ServingError("Internal error"))

    @property
    def has_begun(self) -> bool:
        """Whether something of an answer is on its way."""
        return self._answer is not None and not self._unsent_head

    def take_body(self, piece: bytes, *, is_last: bool) -> None:
        """Keep a piece of the body for the application."""
        self._has_whole_body = is_last
        if self.is_answered or self.is_disconnected:
            return  # nobody asks for it
        if piece:
            self._pieces.append(piece)
            self.num_buffered += len(piece)
        self._wake()

    def disconnect(self, *, is_stalled: bool = False) -> None:
        """Tell the application that nobody waits for its answer."""
        if self.is_answered or self.is_disconnected:
            return
        if is_stalled:
            self.scope[STALLED] = True
        self.is_disconnected = True
        self._discard_body()

    async def receive(self) -> Message:
        """Give the next piece of the body, then wait for the end; one task at a time may ask."""
        while not (self.is_answered or self.is_disconnected):
            if self._pieces or (self._has_whole_body and not self._has_sent_end):
                return self._take_pieces()
            if self._awaits_continue and not self._has_whole_body and self._answer is None:
                self._line.write(_CONTINUE)
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
            self._line.resume_body()
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
        Send the head or a piece of the answer; returns when the connection had room for it.

        Raises:
            RuntimeError: It does not follow from what was sent before.

        """
        if self._line.is_full and not self.is_disconnected:
            await self._line.wait_writable()
        if self.is_disconnected:
            return
        if self.is_answered:
            raise RuntimeError(f"{message['type']} was sent after the end of an answer")
        if message["type"] == "http.response.start":
            self._begin(message)
        else:
            self._write(message.get("body", b""), is_last=not message.get("more_body", False))

    def _begin(self, message: Message) -> None:
        if self._answer is not None:
            raise RuntimeError("http.response.start was sent twice")
        self._answer = response_head(
            message["status"],
            message.get("headers", ()),
            method=self.scope["method"],
            version=self.scope["http_version"],
            keeps_alive=self.keeps_alive,
            date=self._line.date,
        )
        self._unsent_head = self._answer.raw  # in one write with what comes next
        self._num_left = self._answer.num_bytes

    def _write(self, body: bytes, *, is_last: bool) -> None:
        answer = self._answer
        if answer is None:
            raise RuntimeError("http.response.body was sent before http.response.start")
        framed = self._framed(answer.framing, body, is_last=is_last)
        if framed or self._unsent_head:
            self._line.write(self._unsent_head + framed if self._unsent_head else framed)
            self._unsent_head = b""
        if is_last:
            self.is_answered = True
            self._discard_body()
            self._line.end_exchange(keeps_alive=self.keeps_alive and answer.keeps_alive)

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
    """What an ASGI application is told of a request."""
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
