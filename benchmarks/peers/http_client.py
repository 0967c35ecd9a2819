"""A minimal HTTP/1.1 client, whose own cost hardly affects what it measures."""

from __future__ import annotations

import asyncio
import json
import re
import time
from dataclasses import dataclass
from typing import Any, Self

EVENT = re.compile(rb"data: (.*?)\r?\n\r?\n", re.DOTALL)
LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
CLOSE = re.compile(rb"connection: *close", re.IGNORECASE)
LAST_CHUNK = b"0\r\n\r\n"
READ_BYTES = 1 << 16


class HttpError(Exception):
    """There is no response, or its status is not 200."""


@dataclass(frozen=True, slots=True)
class Reply:
    """
    A response.

    Args:
        sent_s: When the request was sent, by `time.perf_counter`.
        pieces: Each piece of the body, with the time it was read.

    """

    sent_s: float
    pieces: tuple[tuple[float, bytes], ...]

    @property
    def duration_s(self) -> float:
        """The time from sending to the end."""
        return self.pieces[-1][0] - self.sent_s

    @property
    def body(self) -> bytes:
        """The body as received, with the chunk sizes of a chunked one."""
        return b"".join(piece for _, piece in self.pieces)

    def events(self) -> list[tuple[float, dict[str, Any]]]:
        """Return the server-sent events and the time each was complete, without ``[DONE]``."""
        ends, end = [], 0
        for time_s, piece in self.pieces:
            end += len(piece)
            ends.append((end, time_s))
        found = []
        for match in EVENT.finditer(self.body):
            if match[1] != b"[DONE]":
                time_s = next(time_s for end, time_s in ends if end >= match.end())
                found.append((time_s, json.loads(match[1])))
        return found


class Connection:
    """A keep-alive connection to this machine."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    @classmethod
    async def open(cls, port: int) -> Self:
        """Connect."""
        connection = cls(port)
        await connection._connect()
        return connection

    async def post(self, path: str, body: bytes, *, key: str = "") -> Reply:
        """
        Send *body* and read the whole response; reconnect, unmeasured, if it closes the connection.

        Raises:
            HttpError: The status is not 200, or there is no response.

        """
        sent_s = time.perf_counter()
        self._writer.write(
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer {key}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        try:
            head = await self._reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            raise HttpError(f"{path}: the server hung up after {error.partial!r}") from error
        length = LENGTH.search(head)
        pieces = await (self._sized(int(length[1])) if length else self._chunked())
        reply = Reply(sent_s, tuple(pieces))
        if b" 200 " not in head[:16]:
            raise HttpError(f"{path}: {head[:16]!r}: {reply.body[:500]!r}")
        if CLOSE.search(head):  # llama-server does so after some requests
            await self.close()
            await self._connect()
        return reply

    async def close(self) -> None:
        """Close the connection."""
        self._writer.close()
        await self._writer.wait_closed()

    async def _connect(self) -> None:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)

    async def _sized(self, length: int) -> list[tuple[float, bytes]]:
        body = await self._reader.readexactly(length)
        return [(time.perf_counter(), body)]

    async def _chunked(self) -> list[tuple[float, bytes]]:
        pieces: list[tuple[float, bytes]] = []
        tail = b""
        while tail != LAST_CHUNK:
            piece = await self._reader.read(READ_BYTES)
            if not piece:
                raise HttpError(f"The answer broke off: {tail!r}")
            pieces.append((time.perf_counter(), piece))
            tail = (tail + piece)[-len(LAST_CHUNK) :]
        return pieces
