from __future__ import annotations

import asyncio
import socket

import pytest
from uvicorn.config import Config
from uvicorn.server import ServerState

from stillhouse.api.connection import STALLED, Connection, cut_stalled

TIMEOUT_S = 30.0


class Peer:
    """A transport whose other side takes as much as the test says."""

    def __init__(self):
        self.num_written = self.num_taken = 0
        self.is_aborted = False
        self.options = []

    def write(self, data):
        self.num_written += len(data)

    def get_write_buffer_size(self):
        return self.num_written - self.num_taken

    def get_extra_info(self, name):
        return self if name == "socket" else None

    def getsockname(self):
        return ("127.0.0.1", 8000)

    getpeername = getsockname

    def setsockopt(self, *option):
        self.options.append(option[:2])

    def is_closing(self):
        return self.is_aborted

    def abort(self):
        self.is_aborted = True

    def close(self):
        self.is_aborted = True


@pytest.fixture
async def peer():
    return Peer()


@pytest.fixture
async def connection(peer):
    async def serve(_scope, _receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x" * 1000, "more_body": True})
        await asyncio.Event().wait()

    config = Config(serve, lifespan="off", log_config=None)
    config.load()
    connection = Connection(config, ServerState(), {})
    connection.connection_made(peer)
    connection.data_received(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    await asyncio.sleep(0)
    yield connection
    for task in connection.tasks:
        task.cancel()
    await asyncio.gather(*connection.tasks, return_exceptions=True)


async def test_a_client_that_takes_nothing_is_cut(connection, peer):
    """Once the time is over, at once and with all that waits; its request's scope says why."""
    assert not connection.cut_if_stalled(0, TIMEOUT_S)
    assert not connection.cut_if_stalled(TIMEOUT_S - 0.1, TIMEOUT_S)
    assert not peer.is_aborted
    assert STALLED not in connection.cycle.scope

    assert connection.cut_if_stalled(TIMEOUT_S, TIMEOUT_S)
    assert peer.is_aborted
    assert STALLED in connection.cycle.scope
    assert [(socket.SOL_SOCKET, socket.SO_LINGER)] == peer.options


async def test_a_slow_client_is_waited_for(connection, peer):
    """A byte within each timeout is enough, for ever."""
    for second in range(0, 1000, 20):
        assert not connection.cut_if_stalled(second, TIMEOUT_S)
        peer.num_taken += 1


async def test_slow_but_as_fast_as_its_server(connection, peer):
    """As much waits at every look, but it is not the same."""
    for second in range(0, 1000, 20):
        assert not connection.cut_if_stalled(second, TIMEOUT_S)
        connection.transport.write(b"x")
        peer.num_taken += 1


async def test_more_to_take_is_no_taking(connection):
    """A comment now and then, added to what waits, does not hide that nobody reads."""
    assert not connection.cut_if_stalled(0, TIMEOUT_S)
    connection.transport.write(b": keep-alive\n\n")
    assert not connection.cut_if_stalled(15, TIMEOUT_S)
    connection.transport.write(b": keep-alive\n\n")

    assert connection.cut_if_stalled(30, TIMEOUT_S)


async def test_who_has_read_everything_may_be_silent(connection, peer):
    """An idle connection is none that stands still; the time counts from what comes next."""
    peer.num_taken = peer.num_written
    assert not connection.cut_if_stalled(0, TIMEOUT_S)
    assert not connection.cut_if_stalled(1000, TIMEOUT_S)
    connection.transport.write(b"x")
    assert not connection.cut_if_stalled(1001, TIMEOUT_S)

    assert connection.cut_if_stalled(1031, TIMEOUT_S)


async def test_all_connections_are_looked_after(connection, peer):
    """Of those that are open, the ones that stand still are cut, again and again."""
    cut = asyncio.Event()
    peer.abort = cut.set
    cutting = asyncio.create_task(cut_stalled({connection}, 0.01))
    await cut.wait()
    cutting.cancel()

    assert STALLED in connection.cycle.scope


async def test_who_sends_ahead_leaves_the_request_at_work(connection, peer):
    """Of two requests on one connection the first is served, and is the one that is told."""
    first = connection.cycle
    connection.data_received(b"GET /next HTTP/1.1\r\nHost: x\r\n\r\n")
    assert first is not connection.cycle
    connection.cut_if_stalled(0, TIMEOUT_S)
    assert connection.cut_if_stalled(TIMEOUT_S, TIMEOUT_S)
    connection.connection_lost(None)

    assert first.disconnected
    assert STALLED in first.scope
