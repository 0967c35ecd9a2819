"""Frames messages to and from workers: four bytes of length, and that many bytes."""

from __future__ import annotations

from typing import IO

LENGTH_BYTES = 4
MAX_FRAME_BYTES = (1 << 8 * LENGTH_BYTES) - 1


class FrameError(Exception):
    """The other side sent no valid frame or message; the connection cannot be used any more."""


def frame_length(num_bytes: int, *, max_bytes: int = MAX_FRAME_BYTES) -> bytes:
    """
    Returns the bytes that precede a frame's body.

    Raises:
        FrameError: The body has more than *max_bytes*.

    """
    if num_bytes > max_bytes:
        raise FrameError(f"A frame of {num_bytes} bytes exceeds {max_bytes}.")
    return num_bytes.to_bytes(LENGTH_BYTES, "big")


def body_length(prefix: bytes | bytearray, *, max_bytes: int = MAX_FRAME_BYTES) -> int:
    """
    Returns the length of a frame's body, of which *prefix* are the first four bytes.

    Raises:
        FrameError: The body would have more than *max_bytes*.

    """
    length = int.from_bytes(prefix, "big")
    if length > max_bytes:
        raise FrameError(f"A frame of {length} bytes exceeds {max_bytes}.")
    return length


def read_frame(stream: IO[bytes]) -> bytes | None:
    """Reads the next frame's body, blocking; returns None where the stream ends before its end."""
    prefix = stream.read(LENGTH_BYTES)
    if len(prefix) < LENGTH_BYTES:
        return None
    body = stream.read(length := body_length(prefix))
    return body if len(body) == length else None


def write_frame(stream: IO[bytes], body: bytes) -> None:
    """
    Writes *body* as one frame and flushes the stream.

    Raises:
        FrameError: The body exceeds `MAX_FRAME_BYTES`.

    """
    stream.write(frame_length(len(body)))
    stream.write(body)
    stream.flush()
