"""Connections that send no HTTP, or half of it."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from tests.attacks.memory import at_most_mib_more
from tests.attacks.raw_connection import RawConnection, answer_to

CONFIG = "token_interval_s = 0.01\n"
NUM_CONNECTIONS = 200
GARBAGE = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),  # a TLS client hello
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\r\n" * 100,
    b"POST /v1/openai/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    b"GET /livez HTTP/9.9\r\nHost: x\r\n\r\n",
    bytes(range(256)) * 16,
]


def test_a_stream_runs_through_garbage(server, victim):
    """Two hundred connections of garbage cost no other client a token and the gateway no memory."""
    with (
        victim.streaming(),
        at_most_mib_more(server, 20),
        ExitStack() as open_connections,
    ):
        for number in range(NUM_CONNECTIONS):
            connection = open_connections.enter_context(RawConnection(server))
            connection.send(GARBAGE[number % len(GARBAGE)])
    assert victim.is_answered()


@pytest.mark.parametrize(
    "garbage", [GARBAGE[0], GARBAGE[3], GARBAGE[5]], ids=["TLS", "length", "bytes"]
)
def test_garbage_is_a_400_and_closed(server, garbage):
    """Bytes that are not HTTP are refused, and the connection is closed."""
    with RawConnection(server) as connection:
        connection.send(garbage)
        answer = connection.answer()
        assert connection.is_closed_by_server()

    assert answer
    assert 400 == answer.status


def test_the_harness_reads_answers(server):
    """An ordinary request on a raw connection is answered, so these tests can fail."""
    answer = answer_to(server, b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")

    assert answer
    assert 200 == answer.status
