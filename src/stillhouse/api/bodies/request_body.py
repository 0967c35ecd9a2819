"""Receives the body of a request within bounds, and decompresses gzip."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive

from stillhouse.errors import BodyTooLargeError, BodyTooSlowError, InvalidRequestError

#: For the whole body, as it stays in memory meanwhile; nginx allows as much between two reads.
TIMEOUT_S = 60.0

#: zlib's code for gzip's header (RFC 1952).
GZIP = 16 + zlib.MAX_WBITS


async def read_body(request: Request, *, max_bytes: int, timeout_s: float = TIMEOUT_S) -> bytes:
    """
    Receives the whole body and decompresses it.

    Raises:
        BodyTooSlowError: It has not arrived within *timeout_s*.
        BodyTooLargeError: It has more than *max_bytes*, compressed or not; the rest is not read.
        InvalidRequestError: Its ``Content-Encoding`` is not gzip, or its content is not.

    """
    packed = is_packed(request)
    body = await receive_body(request, max_bytes=max_bytes, timeout_s=timeout_s)
    return unpack(body, max_bytes) if packed else body


def is_packed(request: Request) -> bool:
    """
    Returns whether the body is gzip.

    Raises:
        InvalidRequestError: It has another encoding.

    """
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in {"identity", "gzip"}:
        raise InvalidRequestError(
            f"Content-Encoding {encoding[:40]!r} is not read here; right would be gzip, or none",
            param="Content-Encoding",
        )
    return encoding == "gzip"


async def _accept_all(_num_bytes: int) -> None:
    """Lets the whole body in."""


async def receive_body(
    request: Request,
    *,
    max_bytes: int,
    timeout_s: float = TIMEOUT_S,
    on_received: Callable[[int], Awaitable[None]] = _accept_all,
) -> bytes:
    """
    Receives the whole body as it was sent.

    Args:
        on_received: Awaited with the number of bytes so far, before more are read.

    Raises:
        BodyTooSlowError: It has not arrived within *timeout_s*.
        BodyTooLargeError: It has more than *max_bytes*; the rest is not read.

    """
    try:
        async with asyncio.timeout(timeout_s):
            return await _read(request.receive, max_bytes, on_received)
    except TimeoutError as error:
        raise BodyTooSlowError(f"The request body did not come within {timeout_s:g} s") from error


async def _read(
    receive: Receive, max_bytes: int, on_received: Callable[[int], Awaitable[None]]
) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > max_bytes:
            raise _too_large(max_bytes)
        await on_received(size)
        if not message.get("more_body", False):
            return chunk if not chunks else b"".join([*chunks, chunk])
        chunks.append(chunk)


def unpack(body: bytes, max_bytes: int) -> bytes:
    """
    Decompresses a gzip body.

    Raises:
        BodyTooLargeError: It has more than *max_bytes*; the rest is not decompressed.
        InvalidRequestError: It is not gzip, or not exactly one whole stream.

    """
    unpacker = zlib.decompressobj(GZIP)
    try:
        unpacked = unpacker.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise InvalidRequestError(
            f"The request body is not gzip: {error}", param="Content-Encoding"
        ) from error
    if len(unpacked) > max_bytes:
        raise _too_large(max_bytes)
    if not unpacker.eof or unpacker.unused_data:
        raise InvalidRequestError(
            "The request body is not one whole gzip stream", param="Content-Encoding"
        )
    return unpacked


def _too_large(max_bytes: int) -> BodyTooLargeError:
    return BodyTooLargeError(f"The request body is larger than {max_bytes} bytes")
