from __future__ import annotations

from itertools import pairwise

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.api.server.request_framing import ChunkedBody, SizedBody
from stillhouse.errors import MalformedRequestError

CHUNK = st.binary(min_size=1, max_size=40) | st.sampled_from([b"\r\n\r\n", b"0\r\n\r\n"])
EXTENSION = st.sampled_from([b"", b"", b";a", b';a="b c"', b";x=1;y"])
TRAILERS = st.sampled_from([b"", b"", b"A: b\r\n", b"A: b\r\nX-Sum: 3\r\n"])


@st.composite
def chunked(draw):
    """Bytes of a body in chunks, and the body."""
    chunks = draw(st.lists(CHUNK, max_size=6))
    wire = b"".join(b"%x%b\r\n%b\r\n" % (len(chunk), draw(EXTENSION), chunk) for chunk in chunks)
    return wire + b"0" + draw(EXTENSION) + b"\r\n" + draw(TRAILERS) + b"\r\n", b"".join(chunks)


def pieces_of(data, cuts):
    edges = [0, *sorted({min(cut, len(data)) for cut in cuts}), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


def taken(body, pieces):
    """What of the pieces is body, and what comes after it."""
    found, rest = b"", b""
    for piece in pieces:
        if body.is_over:
            rest += piece
        else:
            more, rest = body.take(piece)
            found += more
    return found, rest


@given(chunked(), st.binary(max_size=20), st.lists(st.integers(0, 300), max_size=12))
def test_chunks_in_any_pieces(made, rest, cuts):
    """However the bytes are cut, the body is the same, and what follows it is left alone."""
    wire, content = made
    body = ChunkedBody()

    assert (content, rest) == taken(body, pieces_of(wire + rest, cuts))
    assert body.is_over


@given(st.binary(max_size=60), st.binary(max_size=20), st.lists(st.integers(0, 80), max_size=5))
def test_a_body_with_a_length_in_any_pieces(content, rest, cuts):
    """It ends where its length says."""
    body = SizedBody(len(content))

    assert (content, rest) == taken(body, pieces_of(content + rest, cuts))
    assert body.is_over


class Llhttp:
    """What llhttp makes of a body in chunks: its bytes; None where it refuses it."""

    def __init__(self, wire):
        self.body, self.num_ends = b"", 0
        parser = httptools.HttpRequestParser(self)
        parser.feed_data(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            parser.feed_data(wire)
        except httptools.HttpParserError:
            self.num_ends = 0

    def on_body(self, part):
        self.body += part

    def on_message_complete(self):
        self.num_ends += 1


@given(chunked(), st.data())
def test_no_more_is_taken_than_llhttp_takes(made, data):
    """Of chunks with a byte changed, put in or left out: what is a body here is one there too."""
    wire, _ = made
    at = data.draw(st.integers(0, len(wire) - 1))
    new = data.draw(st.sampled_from([b"", b"\n", b"\r", b" ", b";", b"0", b"x", b"\r\n", b"\0"]))
    odd = wire[:at] + new + wire[at + data.draw(st.integers(0, 1)) :]
    body = ChunkedBody()
    try:
        found, rest = body.take(odd)
    except MalformedRequestError:
        return
    if not body.is_over:
        return
    there = Llhttp(odd[: len(odd) - len(rest)])

    assert (found, 1) == (there.body, there.num_ends)


@pytest.mark.parametrize(
    "wire",
    [
        b"3\nabc\r\n0\r\n\r\n",
        b"3\r\nabcd\r\n0\r\n\r\n",
        b"3\r\nabc\n0\r\n\r\n",
        b"0x3\r\nabc\r\n0\r\n\r\n",
        b"+3\r\nabc\r\n0\r\n\r\n",
        b"-3\r\nabc\r\n0\r\n\r\n",
        b" 3\r\nabc\r\n0\r\n\r\n",
        b"3 \r\nabc\r\n0\r\n\r\n",
        b"\r\nabc\r\n0\r\n\r\n",
        b"1" * 16 + b"\r\n",
        b"3; a\r\nabc\r\n0\r\n\r\n",
        b"3;a\rb\r\nabc\r\n0\r\n\r\n",
        b"0\r\nA b\r\n\r\n",
        b"0\r\nContent-Length: 3\r\n\r\n",
        b"0\r\n fold_system_messages: x\r\n\r\n",
        b"0\r\nA: b\n\r\n",
    ],
)
def test_odd_chunks_are_refused(wire):
    """At once, and not taken for something near it."""
    with pytest.raises(MalformedRequestError):
        ChunkedBody().take(wire)


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        (b"1;a", b"a" * 100),
        (b"0\r\nA: ", b"a" * 100),
        (b"0\r\n", b"A: b\r\n"),
    ],
)
def test_what_stands_between_chunks_has_bounds(begin, more):
    """Neither an extension, nor a trailer, nor trailers go on for ever."""
    body = ChunkedBody()
    body.take(begin)
    with pytest.raises(MalformedRequestError, match="longer than"):
        taken(body, [more] * 10_000)
