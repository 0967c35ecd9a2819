"""Bodies that are made to hurt are refused, and neither the engine nor anybody else notices."""

from __future__ import annotations

import socket
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.e2e.bombs import BOMBS, HELLO, PACKED_BOMBS

CHAT = "/v1/openai/chat/completions"


def error_of(response):
    assert 400 <= response.status_code < 500
    error = response.json()["error"]
    assert error["message"]
    return error


@pytest.fixture(autouse=True)
def _the_engine_lives_on(server):
    """After each bomb it is still the same process."""
    before = _engine_pids(server)
    yield
    assert 2 == len(before)  # one for each model
    assert before == _engine_pids(server)


def _engine_pids(server):
    pid = server.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return {pid for pid in children if "engines" in Path(f"/proc/{pid}/cmdline").read_text()}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused(server, name):
    """A 4xx that says what was wrong, never a 5xx and never silence."""
    with server.client() as client:
        error_of(client.post(CHAT, content=BOMBS[name]()))


@pytest.mark.parametrize("name", PACKED_BOMBS)
def test_a_packed_bomb_is_refused(server, name):
    """A compressed body that expands beyond the limit is refused when it reaches the limit."""
    with server.client() as client:
        error_of(
            client.post(CHAT, content=PACKED_BOMBS[name](), headers={"Content-Encoding": "gzip"})
        )


def test_endless_chunks_are_cut(server):
    """A body without a length is read up to the limit, and then answered."""
    address = urlsplit(server.url)
    chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"
    with socket.create_connection((address.hostname, address.port), timeout=60) as connection:
        head = (
            f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.key}\r\n"
            "Transfer-Encoding: chunked\r\n\r\n"
        )
        connection.sendall(head.encode())
        try:
            for _ in range(1000):  # 64 MiB, eight times the limit
                connection.sendall(chunk)
        except ConnectionError:
            pass  # cut, with the answer on its way already
        else:
            raise AssertionError("all of it was read")
        answer = _rest_of(connection)

    assert b"" == answer or answer.startswith(b"HTTP/1.1 413")


def _rest_of(connection):
    try:
        return connection.recv(1 << 16)
    except ConnectionError:  # a reset can overtake the answer
        return b""


def test_a_bomb_beside_a_stream(server):
    """While bombs go off, a stream that was begun before goes on to its end."""
    ask = HELLO | {"stream": True, "temperature": 0}
    with server.client() as client, client.stream("POST", CHAT, json=ask) as response:
        lines = response.iter_lines()
        next(lines)
        for make in BOMBS.values():
            error_of(
                httpx.post(server.url + CHAT, content=make(), headers=server.headers, timeout=60)
            )
        rest = list(lines)

    assert "data: [DONE]" == [line for line in rest if line][-1]
