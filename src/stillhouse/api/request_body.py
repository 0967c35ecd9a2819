"""The body of a request, within bounds."""

from __future__ import annotations

from starlette.requests import Request

from stillhouse.errors import BodyTooLargeError


async def read_body(request: Request, *, max_bytes: int) -> bytes:
    """
    The whole body.

    Raises:
        BodyTooLargeError: It has more than *max_bytes*; the rest is not read.

    """
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > max_bytes:
            raise BodyTooLargeError(f"The request body is larger than {max_bytes} bytes")
        chunks.append(chunk)
    return b"".join(chunks)
