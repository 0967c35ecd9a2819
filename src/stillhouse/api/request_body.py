"""The body of a request, within bounds, and unpacked where it is gzip."""

from __future__ import annotations

import zlib

from starlette.requests import Request

from stillhouse.errors import BodyTooLargeError, InvalidRequestError

_GZIP = 16 + zlib.MAX_WBITS  # zlib's way to say: with gzip's header (RFC 1952)


async def read_body(request: Request, *, max_bytes: int) -> bytes:
    """
    The whole body.

    Raises:
        BodyTooLargeError: It has more than *max_bytes*, packed or unpacked; the rest is not read.
        InvalidRequestError: Its ``Content-Encoding`` is not gzip, or it is not what it says.

    """
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in {"identity", "gzip"}:
        raise InvalidRequestError(
            f"Content-Encoding {encoding[:40]!r} is not read here; right would be gzip, or none",
            param="Content-Encoding",
        )
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > max_bytes:
            raise _too_large(max_bytes)
        chunks.append(chunk)
    body = b"".join(chunks)
    return _unpack(body, max_bytes) if encoding == "gzip" else body


def _unpack(body: bytes, max_bytes: int) -> bytes:
    unpacker = zlib.decompressobj(_GZIP)
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
