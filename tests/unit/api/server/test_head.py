from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stillhouse.api.server.head import HEAD_END, HeadBounds, read_head, too_large
from stillhouse.errors import HeadTooLargeError, MalformedRequestError, TargetTooLongError

BOUNDS = HeadBounds()
SMALL = HeadBounds(max_bytes=400, max_lines=4, max_line_bytes=50, max_target_bytes=20)

PIECES = [
    "GET ",
    "/",
    "?",
    " ",
    "\t",
    "\r",
    "\n",
    "\r\n",
    " HTTP/1.1",
    "C: d",
    ":",
    "\0",
    "\xa0",
    "x",
]


def head_of(*lines, bounds=BOUNDS):
    return read_head("\r\n".join([*lines, "", ""]).encode("latin-1"), bounds)


def test_what_a_head_says():
    """Method, target and headers, names in small letters and values without space around."""
    head = head_of("POST /v1/a%20b?c=d%20e HTTP/1.1", "Host: x", "X-One:  1 ", "Content-Length: 3")

    assert ("POST", "/v1/a b", b"/v1/a%20b") == (head.method, head.path, head.raw_path)
    assert (b"c=d%20e", "1.1") == (head.query, head.version)
    assert [(b"host", b"x"), (b"x-one", b"1"), (b"content-length", b"3")] == head.headers
    assert head.body is not None
    assert (b"abc", b"d") == head.body.take(b"abcd")


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (["GET / HTTP/1.1"], "0 Host headers"),
        (["GET / HTTP/1.1", "Host: a", "Host: a"], "2 Host headers"),
        (["GET / HTTP/1.0", "Host: a", "Host: b"], "2 Host headers"),
        (["GET / HTTP/1.1", "Host: a, b"], "not a name"),
        (["GET / HTTP/1.1", "Host: a/b"], "not a name"),
        (["GET / HTTP/2.0", "Host: a"], "HTTP/1.1"),
        (["GET /", "Host: a"], "HTTP/1.1"),
        (["GET / RTSP/1.0", "Host: a"], "HTTP/1.1"),
        (["GET  / HTTP/1.1 HTTP/1.1", "Host: a"], "not HTTP"),
        (["get / HTTP/1.1", "Host: a"], "not HTTP"),
        (["CONNECT a:1 HTTP/1.1", "Host: a"], "not a path"),
        (["GET /\xe4 HTTP/1.1", "Host: a"], "not HTTP"),
        (["GET / HTTP/1.1", "Host : a"], "not HTTP"),
        (["GET / HTTP/1.1", "Host: a", "X: 1", " fold_system_messages: 2"], "not HTTP"),
        (["GET / HTTP/1.1", "Host: a", "X: 1\nY: 2"], "not HTTP"),
        (["GET / HTTP/1.1\nHost: a"], "HTTP/1.1"),
        (["GET /\nA: b HTTP/1.1", "Host: a"], "one space"),
        (["GET /  HTTP/1.1", "Host: a"], "one space"),
        (["GET / HTTP/1.1", "Host: a", "X: 1\rY: 2"], "not HTTP"),
        (["GET / HTTP/1.1", "Host: a", "X: \0"], "not HTTP"),
        (["GET / HTTP/1.1", "Host: a", ": x"], "not HTTP"),
        (["GET / HTTP/1.1", "Host: a", "X y: 1"], "not HTTP"),
    ],
)
def test_what_is_no_request(lines, told):
    """Whatever two programs could read in two ways is refused."""
    with pytest.raises(MalformedRequestError) as raised:
        head_of(*lines)

    assert told in raised.value.message


@pytest.mark.parametrize(
    "headers",
    [
        ["Content-Length: 3", "Content-Length: 3"],
        ["Content-Length: 3, 3"],
        ["Content-Length: +3"],
        ["Content-Length: 3x"],
        ["Content-Length: -1"],
        ["Content-Length: 0x3"],
        ["Content-Length: 9999999999999999999999"],
        ["Content-Length:"],
        ["Content-Length: 3", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: chunked", "Content-Length: 3"],
        ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: gzip, chunked"],
        ["Transfer-Encoding: chunked, identity"],
        ["Transfer-Encoding: xchunked"],
        ["Transfer-Encoding: identity"],
        ["Transfer-Encoding : chunked"],
    ],
)
def test_bodies_whose_end_is_uncertain(headers):
    """One way to frame a body, or none: everything else is how requests are smuggled."""
    with pytest.raises(MalformedRequestError):
        head_of("POST / HTTP/1.1", "Host: x", *headers)


def test_chunks_are_not_http_1_0():
    """A proxy that speaks 1.0 would take them for another request."""
    with pytest.raises(MalformedRequestError):
        head_of("POST / HTTP/1.0", "Transfer-Encoding: chunked")


@pytest.mark.parametrize(
    ("lines", "keeps_alive"),
    [
        (["GET / HTTP/1.1", "Host: x"], True),
        (["GET / HTTP/1.1", "Host: x", "Connection: TE, Close"], False),
        (["GET / HTTP/1.0"], False),
        (["GET / HTTP/1.1", "Host: x", "Connection: Upgrade", "Upgrade: h2c"], True),
    ],
)
def test_whether_the_connection_goes_on(lines, keeps_alive):
    """As the client wishes; an upgrade is not taken up, and changes nothing."""
    assert keeps_alive is head_of(*lines).keeps_alive


def test_an_upgrade_may_have_a_body():
    """Clients that offer HTTP/2 do so with their ordinary requests."""
    upgrade = ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AA"]
    head = head_of("POST / HTTP/1.1", "Host: x", *upgrade, "Content-Length: 3")

    assert head.body is not None
    assert (b"abc", b"") == head.body.take(b"abc")


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        (["GET /" + "a" * 20 + " HTTP/1.1", "Host: x"], None),
        (["GET /" + "a" * 60 + " HTTP/1.1", "Host: x"], TargetTooLongError),
        (["GET / HTTP/1.1", "Host: x", "A: " + "a" * 47], None),
        (["GET / HTTP/1.1", "Host: x", "A: " + "a" * 48], HeadTooLargeError),
        (["GET / HTTP/1.1", "Host: x", "A: a", "B: b"], None),
        (["GET / HTTP/1.1", "Host: x", "A: a", "B: b", "C: c"], HeadTooLargeError),
    ],
)
def test_lines_and_target_have_bounds(lines, error):
    """Up to the bound it is read; beyond, the error says which bound it was."""
    if error is None:
        head_of(*lines, bounds=SMALL)
    else:
        with pytest.raises(error):
            head_of(*lines, bounds=SMALL)


def test_a_head_that_does_not_end():
    """Its target is to blame where not even the first line has ended."""
    assert isinstance(too_large(b"GET /" + b"a" * 9000, BOUNDS), TargetTooLongError)
    assert isinstance(too_large(b"GET / HTTP/1.1\r\n" + b"a" * 9000, BOUNDS), HeadTooLargeError)


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/", "/", b""),
        ("http://host/a?b", "/a", b"b"),
        ("http://host", "/", b""),
        ("//a//b", "//a//b", b""),
        ("/a?b?c", "/a", b"b?c"),
        ("/%e2%82%ac", "/€", b""),
        ("*", "*", b""),
    ],
)
def test_targets(target, path, query):
    """A path and its query, in either form that RFC 9112 has for a server like this one."""
    head = head_of(f"GET {target} HTTP/1.1", "Host: x")

    assert (path, query) == (head.path, head.query)


@given(st.lists(st.sampled_from(PIECES), max_size=8), st.integers(0, 8))
@example(["\r\n"], 8)
def test_no_other_line_end_and_no_other_line(pieces, at):
    """Whatever is read as a head has as many headers as lines, and ends them with CR LF alone."""
    lines = ["GET /", " HTTP/1.1", "\r\n", "Host: a", "\r\n", "A: b", "\r\n", "B: c"]
    raw = "".join([*lines[:at], *pieces, *lines[at:]]).encode("latin-1")
    raw = (raw + HEAD_END).partition(HEAD_END)[0].lstrip(b"\r\n")
    try:
        head = read_head(raw + HEAD_END, BOUNDS)
    except MalformedRequestError:
        return

    first_line, *others = raw.split(b"\r\n")
    assert len(others) == len(head.headers)
    assert re.fullmatch(rb"[A-Z]+ [\x21-\x7e]+ HTTP/1\.[01]", first_line)
    assert all(re.fullmatch(rb"[\w-]+:[\t\x20-\x7e\x80-\xff]*", line) for line in others)
