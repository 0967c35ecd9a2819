"""Many silent or unread connections take neither memory nor connection slots from others."""

from __future__ import annotations

import re
import resource
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import repeat

import httpx

from tests.attacks.memory import at_most_mib_more
from tests.attacks.raw_connection import Flood, RawConnection
from tests.faults.fault_server import CHAT, FaultServer

CONFIG = """token_interval_s = 0.01
[server]
max_connections = 100
head_timeout_s = 60
stall_timeout_s = 1
"""
MIB = 1 << 20
GET = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"


def closed_connections(server: FaultServer, reason: str) -> float:
    """Return the number of connections closed for *reason*, from the server's metrics."""
    text = httpx.get(f"{server.url}/metrics").text
    name = f'stillhouse_http_connections_closed_total{{reason="{reason}"}}'
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0


def flood(connection: RawConnection) -> Flood:
    """Send requests ahead for as long as they are taken."""
    return connection.flood(repeat(GET * 500), most_bytes=64 * MIB)


def test_a_stream_runs_through_unread_answers(server, victim):
    """Ten clients send requests ahead and read nothing: little is held, and they are cut."""
    num_cut = closed_connections(server, "stalled")
    with (
        victim.streaming(),
        at_most_mib_more(server, 20),
        ExitStack() as connections,
    ):
        unread = [
            connections.enter_context(RawConnection(server, receive_bytes=2048)) for _ in range(10)
        ]
        for connection in unread:
            connection.send(GET)
        with ThreadPoolExecutor(10) as threads:
            floods = list(threads.map(flood, unread))
        server.wait_until(lambda: closed_connections(server, "stalled") >= num_cut + 10)

    assert {"unread", "closed"} >= {flood.end for flood in floods}
    assert victim.is_answered()


def test_requests_ahead_are_answered_in_order(server):
    """A client that reads its pipelined answers gets all of them, in order."""
    with RawConnection(server) as connection:
        connection.send(b"GET /none HTTP/1.1\r\nHost: x\r\n\r\n".join([GET] * 20))
        answers = [connection.answer() for _ in range(39)]

    assert [200, 401] * 19 + [200] == [answer.status for answer in answers if answer]


def test_silent_connections_take_no_slots(server, victim):
    """With three times more silent connections than slots, other clients connect and are served."""
    with ExitStack() as connections, victim.streaming():
        resting = connections.enter_context(RawConnection(server, source="127.0.0.9"))
        for number in range(300):
            connections.enter_context(RawConnection(server, source="127.0.0.2"))
            if number % 50 == 0:
                assert 200 == httpx.get(f"{server.url}/livez").status_code
        assert victim.is_answered()
        resting.send(GET)
        assert resting.answer()

    assert closed_connections(server, "table_full") >= 200
    server.wait_until(lambda: server.alarms("connections_closed"))


def test_who_has_most_takes_nothing_from_others(server, attacker):
    """An address whose connections are all at work is refused more, and others' rest on."""
    head = (
        f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {attacker.secret}\r\n"
        "Content-Length: 10\r\nExpect: 100-continue\r\n\r\n"
    ).encode()
    with ExitStack() as connections:
        others = [
            connections.enter_context(RawConnection(server, source=f"127.0.1.{number}"))
            for number in range(1, 11)
        ]
        num_refused = 0
        for _ in range(110):
            try:
                waiting = connections.enter_context(RawConnection(server, source="127.0.0.2"))
            except ConnectionResetError:
                num_refused += 1
                continue
            if not (waiting.send(head) and waiting.answer()):
                num_refused += 1
        assert 20 <= num_refused < 30
        for other in others:
            other.send(GET)
            assert other.answer()


def test_silent_connections_are_closed_in_time(start_server):
    """Without a byte, after a request, and after half of one."""
    server = start_server("[server]\nhead_timeout_s = 0.4\nidle_timeout_s = 0.4\n")
    with ExitStack() as connections:
        silent, rested, half = (connections.enter_context(RawConnection(server)) for _ in range(3))
        rested.send(GET)
        half.send(GET + GET[:10])
        assert silent.is_closed_by_server()
        assert rested.is_closed_by_server()
        assert half.is_closed_by_server()


def test_without_files_it_lives_on(start_server):
    """If accept fails, connections are lost, and the server continues."""
    server = start_server("[server]\nmax_connections = 100000\n")
    limits = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (64, limits[1]))
    with ExitStack() as connections:
        for _ in range(200):
            connections.enter_context(RawConnection(server))
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, limits)
    server.wait_until(server.is_ready)


def test_thousands_of_silent_connections(start_server):
    """Each takes little more than a KiB, and a request among them is answered."""
    server = start_server()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    num_silent = min(3000, hard - 500)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        with at_most_mib_more(server, num_silent * 2 / 1024), ExitStack() as connections:
            for _ in range(num_silent):
                connections.enter_context(RawConnection(server))
            assert 200 == httpx.get(f"{server.url}/livez").status_code
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
