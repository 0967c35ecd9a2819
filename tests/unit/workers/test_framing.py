"""Frames on a stream: whole ones alone, and none that is too long."""

from __future__ import annotations

import io

import pytest

from stillhouse.workers.framing import (
    FrameError,
    body_length,
    frame_length,
    read_frame,
    write_frame,
)


@pytest.mark.parametrize("bodies", [[], [b""], [b"one", b"", b"x" * 70_000]])
def test_what_is_written_is_read(bodies):
    """Frames come back in order, and None behind the last one."""
    stream = io.BytesIO()
    for body in bodies:
        write_frame(stream, body)
    stream.seek(0)
    assert [*bodies, None] == [read_frame(stream) for _ in range(len(bodies) + 1)]


@pytest.mark.parametrize("num_bytes", [1, 3, 4, 6])
def test_a_frame_that_is_cut_short_is_none(num_bytes):
    """A writer that died in the middle leaves nothing that is taken for a message."""
    stream = io.BytesIO()
    write_frame(stream, b"body")
    assert read_frame(io.BytesIO(stream.getvalue()[:num_bytes])) is None


def test_a_length_beyond_the_bound_is_refused_on_both_sides():
    """Neither side writes, or makes room for, more than the bound."""
    assert b"\x00\x00\x00\x09" == frame_length(9, max_bytes=9)
    with pytest.raises(FrameError, match="A frame of 10 bytes exceeds 9"):
        frame_length(10, max_bytes=9)
    with pytest.raises(FrameError, match="A frame of 10 bytes exceeds 9"):
        body_length(b"\x00\x00\x00\x0a", max_bytes=9)
    with pytest.raises(FrameError):
        frame_length(1 << 32)
