"""Finds the end of a request's body: by length, or by chunks (RFC 9112, sections 6 and 7)."""

from __future__ import annotations

import re
from enum import Enum, auto

from stillhouse.errors import MalformedRequestError

_MAX_LINE_BYTES = 1 << 10  # a chunk's size with its extensions, or a trailer
_MAX_TRAILERS_BYTES = 8 << 10

# Only CR LF ends a line: parsers that accept less disagree about where a request ends.
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_EXTENSION = rb";" + _TOKEN + rb"(?:=(?:" + _TOKEN + rb'|"[\t\x20!\x23-\x5b\x5d-\x7e]*"))?'
_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:" + _EXTENSION + rb")*\r\n")
_TRAILER_LINE = re.compile(rb"(" + _TOKEN + rb"):[\t\x20-\x7e\x80-\xff]*\r\n")
_FRAMING = frozenset({b"content-length", b"transfer-encoding", b"host"})  # RFC 9110, section 6.5.1


class SizedBody:
    """A body with a ``Content-Length``."""

    __slots__ = ("_num_left",)

    def __init__(self, num_bytes: int) -> None:
        self._num_left = num_bytes

    @property
    def is_over(self) -> bool:
        """Whether the whole body was parsed."""
        return self._num_left == 0

    def take(self, data: bytes) -> tuple[bytes, bytes]:
        """Splits *data* into a part of the body and what follows the body."""
        num_left = self._num_left
        if len(data) <= num_left:
            self._num_left = num_left - len(data)
            return data, b""
        self._num_left = 0
        return data[:num_left], data[num_left:]


class _Expects(Enum):
    SIZE = auto()
    DATA = auto()
    DATA_END = auto()
    TRAILER = auto()
    NOTHING = auto()


class ChunkedBody:
    """A body in chunks, whose extensions and trailers are bounded and dropped."""

    __slots__ = ("_expects", "_line", "_num_left", "_num_trailers_bytes")

    def __init__(self) -> None:
        self._expects = _Expects.SIZE
        self._line = b""
        self._num_left = 0
        self._num_trailers_bytes = 0

    @property
    def is_over(self) -> bool:
        """Whether the last chunk and the trailers were parsed."""
        return self._expects is _Expects.NOTHING

    def take(self, data: bytes) -> tuple[bytes, bytes]:
        """
        Splits *data* into a part of the body and what follows the body.

        Raises:
            MalformedRequestError: The chunks are malformed.

        """
        pieces = []
        at = 0
        while at < len(data) and self._expects is not _Expects.NOTHING:
            if self._expects is _Expects.DATA:
                piece = data[at : at + self._num_left]
                pieces.append(piece)
                at += len(piece)
                self._num_left -= len(piece)
                if self._num_left == 0:
                    self._expects = _Expects.DATA_END
            else:
                at = self._take_line(data, at)
        return b"".join(pieces), data[at:]

    def _take_line(self, data: bytes, at: int) -> int:
        """Consumes a line of *data*, or a part of it; returns where it ends."""
        end = data.find(b"\n", at) + 1 or len(data)
        if len(self._line) + end - at > _MAX_LINE_BYTES:
            raise MalformedRequestError(
                f"A line between a body's chunks is longer than {_MAX_LINE_BYTES} bytes"
            )
        self._line += data[at:end]
        if self._line.endswith(b"\n"):
            line, self._line = self._line, b""
            self._read_line(line)
        return end

    def _read_line(self, line: bytes) -> None:
        if self._expects is _Expects.SIZE:
            size = _SIZE_LINE.fullmatch(line)
            if size is None:
                raise MalformedRequestError(f"{line[:40]!r} is not the size of a chunk")
            self._num_left = int(size[1], 16)
            self._expects = _Expects.DATA if self._num_left else _Expects.TRAILER
        elif self._expects is _Expects.DATA_END:
            if line != b"\r\n":
                raise MalformedRequestError("A chunk is longer than it says")
            self._expects = _Expects.SIZE
        else:
            self._read_trailer(line)

    def _read_trailer(self, line: bytes) -> None:
        if line == b"\r\n":
            self._expects = _Expects.NOTHING
            return
        trailer = _TRAILER_LINE.fullmatch(line)
        if trailer is None or trailer[1].lower() in _FRAMING:
            raise MalformedRequestError(f"{line[:40]!r} is not a trailer")
        self._num_trailers_bytes += len(line)
        if self._num_trailers_bytes > _MAX_TRAILERS_BYTES:
            raise MalformedRequestError(
                f"The trailers of a body are longer than {_MAX_TRAILERS_BYTES} bytes"
            )
