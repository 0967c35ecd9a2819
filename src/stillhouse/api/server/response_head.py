"""Encodes the head of a response, and chooses the framing of its body (RFC 9112, section 6)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from http import HTTPStatus

from stillhouse.api.http import errors as http_errors
from stillhouse.errors import StillhouseError

Header = tuple[bytes, bytes]


class Framing(Enum):
    """How a client finds the end of a body."""

    NO_BODY = auto()
    LENGTH = auto()
    CHUNKS = auto()
    CLOSE = auto()


@dataclass(slots=True)
class ResponseHead:
    """
    The encoded head of a response.

    Args:
        num_bytes: Length of the body if the framing is `Framing.LENGTH`.

    """

    raw: bytes
    framing: Framing
    num_bytes: int
    keeps_alive: bool


def response_head(  # noqa: PLR0913  (the parts of a head)
    status: int,
    headers: Iterable[Header],
    *,
    method: str,
    version: str,
    keeps_alive: bool,
    date: bytes,
) -> ResponseHead:
    """
    Encodes the head of a response.

    Args:
        headers: Names in lower case, as in ASGI. ``connection: close`` ends the connection.
        keeps_alive: Whether client and server can use the connection again.
        date: The whole Date line.

    Raises:
        ValueError: A header has a line end in it.

    """
    parts = [_STATUS_LINES[status], date]
    num_lines = 2
    num_bytes = None
    for name, value in headers:
        if name == b"connection":
            keeps_alive = keeps_alive and b"close" not in value.lower()
            continue
        if name == b"content-length":
            num_bytes = int(value)
        parts += (name, b": ", value, b"\r\n")
        num_lines += 1
    framing = _framing(status, num_bytes, method, version)
    if framing is Framing.CHUNKS:
        parts.append(b"transfer-encoding: chunked\r\n")
        num_lines += 1
    if framing is Framing.CLOSE or not keeps_alive:
        keeps_alive = False
        parts.append(b"connection: close\r\n")
        num_lines += 1
    raw = b"".join(parts)
    if raw.count(b"\n") != num_lines or raw.count(b"\r") != num_lines:
        raise ValueError(f"a header of a {status} has a line end in it. This is a bug.")
    return ResponseHead(raw + b"\r\n", framing, num_bytes or 0, keeps_alive)


def refusal(error: StillhouseError, *, path: str, date: bytes) -> bytes:
    """Encodes the last response of a connection, to a request that could not be parsed."""
    body = http_errors.body_of(error, path=path)
    headers: Sequence[Header] = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
    ]
    status = http_errors.status_of(error)
    head = response_head(status, headers, method="GET", version="1.1", keeps_alive=False, date=date)
    return head.raw + body


def _framing(status: int, num_bytes: int | None, method: str, version: str) -> Framing:
    if method == "HEAD" or status in {204, 304}:
        return Framing.NO_BODY
    if num_bytes is not None:
        return Framing.LENGTH
    return Framing.CHUNKS if version == "1.1" else Framing.CLOSE


def _status_line(status: HTTPStatus) -> bytes:
    return f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode()


_STATUS_LINES = {status.value: _status_line(status) for status in HTTPStatus}
