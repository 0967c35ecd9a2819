"""Server-sent events (WHATWG HTML, section 9.2): encodes events and writes a response of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
from starlette.types import Send

Header = tuple[bytes, bytes]

#: A comment (section 9.2.6): every client of server-sent events skips it.
COMMENT = b": keep-alive\n\n"

_LINE_ENDS = (("\u0085", b"\\u0085"), ("\u2028", b"\\u2028"), ("\u2029", b"\\u2029"))
_ESCAPES = tuple((char.encode(), escape) for char, escape in _LINE_ENDS)


def escape_line_ends(json: bytes) -> bytes:
    """
    Escapes the characters in JSON that some clients take for the end of a line.

    Source:
        WHATWG HTML, section 9.2: a line ends at CR or LF alone. Clients that read a response with
        `httpx.Response.iter_lines` also end one wherever `str.splitlines` does. JSON itself
        escapes the other characters of that kind.
    """
    for char, escape in _ESCAPES:
        json = json.replace(char, escape)
    return json


def data_event(json: bytes) -> bytes:
    """Encodes an event without a type whose data is *json*."""
    return b"data: %b\n\n" % escape_line_ends(json)


def typed_event(data: Mapping[str, Any]) -> bytes:
    """Encodes an event of the type that *data* names in ``type``, as Anthropic's streams do."""
    json = escape_line_ends(msgspec.json.encode(data))
    return b"event: %b\ndata: %b\n\n" % (data["type"].encode(), json)


class EventStream:
    """
    Writes the events of one response.

    The status is sent with the first event, so that an error before it keeps its own status.

    Args:
        headers: Response headers besides the content type.
        keep_alive: Bytes that are written after a silence.

    """

    def __init__(self, send: Send, headers: Sequence[Header], *, keep_alive: bytes) -> None:
        self._send = send
        self._headers = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"cache-control", b"no-store"),
            *headers,
        ]
        self._keep_alive = keep_alive
        self._write_lock = asyncio.Lock()
        self._num_writes = 0
        self._has_status = False
        self._num_writes_before = 0
        self._timer: asyncio.TimerHandle | None = None
        self._comment: asyncio.Task[None] | None = None

    @property
    def has_begun(self) -> bool:
        """Whether the status has been sent."""
        return self._has_status

    async def write(self, events: bytes, *, is_last: bool = False) -> None:
        """Sends whole events; returns when the connection has room for more."""
        async with self._write_lock:
            self._num_writes += 1
            if not self._has_status:
                await self._send(
                    {"type": "http.response.start", "status": 200, "headers": self._headers}
                )
                self._has_status = True
            await self._send(
                {"type": "http.response.body", "body": events, "more_body": not is_last}
            )

    @contextmanager
    def kept_alive(self, interval_s: float) -> Iterator[None]:
        """Writes `keep_alive` after each silence of about *interval_s* inside the context."""
        self._schedule_check(interval_s)
        try:
            yield
        finally:
            if self._timer is not None:
                self._timer.cancel()
            if self._comment is not None:
                self._comment.cancel()

    def _schedule_check(self, interval_s: float) -> None:
        # A timer takes a tenth of a task's memory, and a task would dominate an idle stream.
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(interval_s, self._fill_silence, interval_s)
        self._num_writes_before = self._num_writes

    def _fill_silence(self, interval_s: float) -> None:
        # A write that waits for its reader needs no keep-alive behind it.
        if self._num_writes == self._num_writes_before and not self._write_lock.locked():
            self._comment = asyncio.create_task(self.write(self._keep_alive), name="keep-alive")
        self._schedule_check(interval_s)
