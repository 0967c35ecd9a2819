"""Parses the head of a request strictly, within bounds (RFC 9112)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

import httptools

from stillhouse.api.server.request_framing import ChunkedBody, SizedBody
from stillhouse.errors import (
    HeadTooLargeError,
    MalformedRequestError,
    RequestError,
    TargetTooLongError,
)

HEAD_END = b"\r\n\r\n"

_KIB = 1 << 10
_VERSIONS = {b" HTTP/1.1": "1.1", b" HTTP/1.0": "1.0"}
_NO_HOST = re.compile(rb"[\s,/?#@\\]")
_SPACES_OF_A_REQUEST_LINE = 2
_LENGTH = re.compile(rb"[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class HeadBounds:
    """Bounds on a request's head; the request line counts as one of its lines."""

    max_bytes: int = 32 * _KIB
    max_lines: int = 128
    max_line_bytes: int = 8 * _KIB
    max_target_bytes: int = 8 * _KIB


@dataclass(slots=True)
class Head:
    """
    The parsed head of a request.

    Args:
        path: Without the query, and percent-decoded.
        headers: Names in lower case.
        body: The parser of its body; None if there is none.
        keeps_alive: Whether the client will use the connection again.
        awaits_continue: Whether the client sends its body only after a ``100 Continue``.

    """

    method: str
    path: str
    raw_path: bytes
    query: bytes
    version: str
    headers: list[tuple[bytes, bytes]]
    body: SizedBody | ChunkedBody | None
    keeps_alive: bool
    awaits_continue: bool


def too_large(begun: bytes | bytearray, bounds: HeadBounds) -> RequestError:
    """Returns the error for a head beyond ``bounds.max_bytes``."""
    if b"\r\n" not in begun[: bounds.max_target_bytes + _KIB]:
        return _target_too_long(bounds)
    return HeadTooLargeError(f"The request's head is larger than {bounds.max_bytes} bytes")


def read_head(raw: bytes, bounds: HeadBounds) -> Head:
    """
    Parses a whole head, its empty line included.

    The parser is llhttp in its strictest mode. What it accepts, and proxies disagree about, is
    refused here.

    Raises:
        HeadTooLargeError: It, a line of it, or its target is beyond *bounds*.
        MalformedRequestError: It is not HTTP/1.1 or 1.0.

    """
    first_line = _first_line(raw, bounds)
    version = _VERSIONS.get(first_line[-9:])
    if version is None:
        raise MalformedRequestError("The request line does not end with HTTP/1.1 or HTTP/1.0")
    found = _ParsedHead()
    parser = httptools.HttpRequestParser(found)
    try:
        parser.feed_data(raw)
    except httptools.HttpParserUpgrade:
        pass  # an upgrade is ignored, which RFC 9110, section 7.8, allows
    except httptools.HttpParserError as error:
        raise MalformedRequestError(f"The request's head is not HTTP: {error}") from error
    if not found.is_whole:
        raise MalformedRequestError("The request's head is not HTTP")
    return _head(parser.get_method().decode("ascii"), version, found)


class _ParsedHead:
    """Collects what llhttp finds in a head."""

    __slots__ = ("headers", "is_whole", "target")

    def __init__(self) -> None:
        self.target = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.is_whole = False

    def on_url(self, part: bytes) -> None:
        self.target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        self.is_whole = True


def _first_line(raw: bytes, bounds: HeadBounds) -> bytes:
    """Returns the request line, after checking the size of *raw* before a parser copies it."""
    first_line, *lines = raw[: -len(HEAD_END)].split(b"\r\n")
    # llhttp accepts LF alone behind an HTTP/0.9 request line, and continues with headers.
    if b"\n" in first_line or first_line.count(b" ") != _SPACES_OF_A_REQUEST_LINE:
        raise MalformedRequestError(
            "The request line is not HTTP/1.1: method, target and version, one space between them"
        )
    # 32 bytes are left for the method and the version.
    if first_line.find(b" ", first_line.find(b" ") + 1) > bounds.max_target_bytes + 32:
        raise _target_too_long(bounds)
    if len(lines) >= bounds.max_lines:
        raise HeadTooLargeError(f"The request's head has more than {bounds.max_lines} lines")
    if lines and max(map(len, lines)) > bounds.max_line_bytes:
        raise HeadTooLargeError(
            f"A line of the request's head is longer than {bounds.max_line_bytes} bytes"
        )
    return first_line


def _target_too_long(bounds: HeadBounds) -> TargetTooLongError:
    return TargetTooLongError(
        f"The request's target is longer than {bounds.max_target_bytes} bytes"
    )


def _head(method: str, version: str, found: _ParsedHead) -> Head:
    path, query = _path_and_query(found.target)
    hosts, lengths, codings, connection, expect = _framing_headers(found.headers)
    _check_host(hosts, version)
    return Head(
        method,
        unquote(path.decode("ascii")) if b"%" in path else path.decode("ascii"),
        path,
        query,
        version,
        found.headers,
        _body(lengths, codings, version),
        keeps_alive=version == "1.1" and b"close" not in connection,
        awaits_continue=version == "1.1" and expect == b"100-continue",
    )


def _path_and_query(target: bytes) -> tuple[bytes, bytes]:
    try:
        url = httptools.parse_url(target)
    except httptools.HttpParserInvalidURLError as error:
        raise MalformedRequestError("The request's target is not a path") from error
    path = url.path or b"/"  # http://host is a target as well
    if not path.isascii():
        raise MalformedRequestError("The request's target is not ASCII; the rest is %-encoded")
    return path, url.query or b""


def _framing_headers(
    headers: list[tuple[bytes, bytes]],
) -> tuple[list[bytes], list[bytes], list[bytes], bytes, bytes]:
    """Returns the headers that determine how the request is framed and the response sent."""
    hosts: list[bytes] = []
    lengths: list[bytes] = []
    codings: list[bytes] = []
    connection = expect = b""
    for name, value in headers:
        if name == b"host":
            hosts.append(value)
        elif name == b"content-length":
            lengths.append(value)
        elif name == b"transfer-encoding":
            codings.append(value.lower())
        elif name == b"connection":
            connection += value.lower()
        elif name == b"expect":
            expect = value.lower()
    return hosts, lengths, codings, connection, expect


def _check_host(hosts: list[bytes], version: str) -> None:
    """Requires one Host; HTTP/1.0 may have none (RFC 9112, section 3.2)."""
    if len(hosts) > 1 or (not hosts and version == "1.1"):
        raise MalformedRequestError(
            f"The request has {len(hosts)} Host headers; right would be exactly one"
        )
    if hosts and _NO_HOST.search(hosts[0]):
        raise MalformedRequestError("The Host header is not a name with or without a port")


def _body(
    lengths: list[bytes], codings: list[bytes], version: str
) -> SizedBody | ChunkedBody | None:
    """Returns the body's parser; ambiguous framing is refused (RFC 9112, section 6.3)."""
    if codings:
        if lengths or codings != [b"chunked"] or version != "1.1":
            raise MalformedRequestError(
                "Transfer-Encoding must be chunked alone, in HTTP/1.1 and without Content-Length"
            )
        return ChunkedBody()
    if not lengths:
        return None
    if len(lengths) > 1 or not _LENGTH.fullmatch(lengths[0]):
        raise MalformedRequestError("Content-Length must be one decimal number")
    length = int(lengths[0])
    return SizedBody(length) if length else None
