"""Heads without end, without Host, or byte by byte: they cost their sender a connection."""

from __future__ import annotations

from contextlib import ExitStack
from itertools import repeat

import pytest

from tests.attacks.memory import at_most_mib_more
from tests.attacks.raw_connection import RawConnection, answer_to

CONFIG = "token_interval_s = 0.01\n[server]\nhead_timeout_s = 0.5\n"
MIB = 1 << 20
BEGIN = b"GET /livez HTTP/1.1\r\nHost: x\r\n"
CEILING_MIB = 20
ENDLESS = {
    "lines": repeat(b"x-many: abcdefghijklmnopqrstuvwxyz\r\n" * 1000),
    "value": repeat(b"v" * 65_536),
    "target": repeat(b"/" * 65_536),
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_a_stream_runs_through_endless_heads(server, victim, kind):
    """Each of ten endless heads gets a 431 or 414, and its connection is closed."""
    begin = {"lines": BEGIN, "value": BEGIN + b"a: ", "target": b"GET /"}[kind]
    with (
        victim.streaming(),
        at_most_mib_more(server, CEILING_MIB),
        ExitStack() as connections,
    ):
        attackers = [connections.enter_context(RawConnection(server)) for _ in range(10)]
        for attacker in attackers:
            attacker.send(begin)
            attacker.flood(ENDLESS[kind], most_bytes=MIB // 4)
        answers = [attacker.answer() for attacker in attackers]
        assert all(attacker.is_closed_by_server() for attacker in attackers)

    assert {414 if kind == "target" else 431} == {answer.status for answer in answers if answer}
    assert all(answers)
    assert victim.is_answered()


def test_floods_go_on_only_for_a_while(server):
    """A refused client that does not stop is cut off: it cannot send for ever."""
    with RawConnection(server) as attacker:
        attacker.send(BEGIN)
        flood = attacker.flood(ENDLESS["lines"], most_bytes=1 << 40)

    assert "closed" == flood.end


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (BEGIN + b"a: b\r\n" * 200 + b"\r\n", 431),
        (BEGIN + b"a: " + b"b" * 9000 + b"\r\n\r\n", 431),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"GET /livez HTTP/1.1\r\n\r\n", 400),
        (BEGIN + b"Host: y\r\n\r\n", 400),
        (BEGIN + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (BEGIN + b"a: " + b"b" * 8000 + b"\r\n\r\n", 200),
        (b"GET /livez HTTP/1.0\r\n\r\n", 200),
    ],
)
def test_what_a_head_may_be(server, request_, status):
    """One that is refused ends its connection, with an error like all others."""
    with RawConnection(server) as connection:
        connection.send(request_)
        answer = connection.answer()
        assert answer
        assert status == answer.status
        if status != 200:
            assert "close" == answer.headers["connection"]
            assert b'{"error":{"message":"' in answer.body
            assert connection.is_closed_by_server()


def test_slow_heads_end(server, victim):
    """A hundred clients that send a line and then nothing get a 408."""
    with ExitStack() as connections, victim.streaming():
        slow = [connections.enter_context(RawConnection(server)) for _ in range(100)]
        for connection in slow:
            connection.send(BEGIN)
        answers = [connection.answer() for connection in slow]
        assert all(connection.is_closed_by_server() for connection in slow)

    assert [408] * 100 == [answer.status for answer in answers if answer]


def test_a_smuggled_request_is_none(server):
    """A body whose end two parsers would read differently is never parsed as a request."""
    inner = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
    for framing in (
        b"Content-Length: 0\r\nContent-Length: %d\r\n" % len(inner),
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        b"Transfer-Encoding:\x0bchunked\r\n",
        b"Content-Length: %d\r\n Transfer-Encoding: chunked\r\n" % len(inner),
    ):
        with RawConnection(server) as connection:
            connection.send(b"POST /livez HTTP/1.1\r\nHost: x\r\n" + framing + b"\r\n" + inner)
            first = connection.answer()
            assert first
            assert 400 == first.status
            assert connection.answer() is None


def test_an_ordinary_upgrade_is_answered(server):
    """Clients that offer HTTP/2 by the way have their answer in HTTP/1.1."""
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    answer = answer_to(server, BEGIN + offer + b"\r\n")

    assert answer
    assert 200 == answer.status
