"""One response as server-sent events: begun late, kept alive, and never torn in the middle."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from starlette.types import Send

Header = tuple[bytes, bytes]

#: A comment (WHATWG HTML, section 9.2.6): every client of server-sent events skips it.
COMMENT = b": keep-alive\n\n"


class EventStream:
    """
    Writes the events of one response.

    The status is sent with the first event, so that what is refused before it still has its own.

    Args:
        headers: Of the response, besides its content type.
        keep_alive: What is written when there was nothing for a while.

    """

    def __init__(self, send: Send, headers: Sequence[Header], *, keep_alive: bytes) -> None:
        self._send = send
        self._headers = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"cache-control", b"no-store"),
            *headers,
        ]
        self._keep_alive = keep_alive
        self._one_at_a_time = asyncio.Lock()
        self._num_writes = 0
        self._has_status = False
        self._num_writes_before = 0
        self._timer: asyncio.TimerHandle | None = None
        self._comment: asyncio.Task[None] | None = None

    @property
    def has_begun(self) -> bool:
        """Whether a client has its status."""
        return self._has_status

    async def write(self, events: bytes, *, is_last: bool = False) -> None:
        """Send whole events; returns when the connection has room for more."""
        async with self._one_at_a_time:
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
        """Within it, something is written at least about every *interval_s*."""
        self._look_again(interval_s)
        try:
            yield
        finally:
            if self._timer is not None:
                self._timer.cancel()
            if self._comment is not None:
                self._comment.cancel()

    def _look_again(self, interval_s: float) -> None:
        # A timer is a tenth of a task's memory, of which an idle stream would be the most.
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(interval_s, self._fill_silence, interval_s)
        self._num_writes_before = self._num_writes

    def _fill_silence(self, interval_s: float) -> None:
        # Behind a write that waits for its reader nothing needs to be kept alive.
        if self._num_writes == self._num_writes_before and not self._one_at_a_time.locked():
            self._comment = asyncio.create_task(self.write(self._keep_alive), name="keep-alive")
        self._look_again(interval_s)
