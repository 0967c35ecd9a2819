"""One response as server-sent events: begun late, kept alive, and never torn in the middle."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

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

    @property
    def has_begun(self) -> bool:
        """Whether a client has its status."""
        return self._num_writes > 0

    async def write(self, events: bytes, *, is_last: bool = False) -> None:
        """Send whole events."""
        async with self._one_at_a_time:
            self._num_writes += 1
            if self._num_writes == 1:
                await self._send(
                    {"type": "http.response.start", "status": 200, "headers": self._headers}
                )
            await self._send(
                {"type": "http.response.body", "body": events, "more_body": not is_last}
            )

    @asynccontextmanager
    async def kept_alive(self, interval_s: float) -> AsyncIterator[None]:
        """Within it, something is written at least about every *interval_s*."""

        async def keep() -> None:
            while True:
                num_writes = self._num_writes
                await asyncio.sleep(interval_s)
                if num_writes == self._num_writes:
                    await self.write(self._keep_alive)

        keeper = asyncio.create_task(keep(), name="keep-alive")
        try:
            yield
        finally:
            keeper.cancel()
