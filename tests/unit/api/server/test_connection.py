from __future__ import annotations

import asyncio
import json
import re
import socket
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.api.server.connection import Timeouts
from stillhouse.api.server.exchange import STALLED
from stillhouse.api.server.head import HeadBounds
from stillhouse.api.server.server import HttpRules
from tests.unit.api.server.peer import Peer, make_server, run_pending

GET = b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n"
TIMEOUTS = Timeouts()
START = {"type": "http.response.start", "status": 200, "headers": []}


class App:
    """Answers with method, path and body, and knows how many requests it had at once."""

    def __init__(self):
        self.num_at_work = self.most_at_work = 0
        self.scopes = []

    async def __call__(self, scope, receive, send):
        self.scopes.append(scope)
        self.num_at_work += 1
        self.most_at_work = max(self.most_at_work, self.num_at_work)
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message["more_body"]
        text = f"{scope['method']} {scope['path']} {body!r}".encode()
        length = (b"content-length", b"%d" % len(text))
        headers = [length] if scope["path"] != "/chunks" else []
        self.num_at_work -= 1
        await send(START | {"headers": headers})
        await send({"type": "http.response.body", "body": text[:5], "more_body": True})
        await send({"type": "http.response.body", "body": text[5:]})


class Waiting:
    """Begins an answer, and then waits until the test says what to send."""

    def __init__(self, *, first=b"x" * 1000):
        self.first = first
        self.left = []
        self.scopes = []
        self.sends = []

    async def __call__(self, scope, receive, send):
        self.scopes.append(scope)
        self.sends.append(send)
        await send(START)
        if self.first:
            await send({"type": "http.response.body", "body": self.first, "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        self.left.append(scope["path"])


def answers_in(written, methods):
    """Status and body of each answer."""
    found = []
    for method in methods:
        head, _, written = written.partition(b"\r\n\r\n")
        status = int(head.split()[1])
        if b"transfer-encoding: chunked" in head:
            body = b""
            while size := int(written[: written.index(b"\r\n")], 16):
                start = written.index(b"\r\n") + 2
                body += written[start : start + size]
                written = written[start + size + 2 :]
            written = written[5:]
        else:
            length = re.search(rb"content-length: (\d+)", head)
            num_bytes = 0 if method == "HEAD" or not length else int(length[1])
            body, written = written[:num_bytes], written[num_bytes:]
        found.append((status, body))
    assert b"" == written
    return found


async def ask(app, *pieces, rules=None):
    """What is written when the pieces come one after the other."""
    peer = Peer(make_server(app, rules))
    for piece in pieces:
        peer.send(piece)
        await run_pending()
    return peer


def refusal_in(peer):
    """Status and message of the error that all ended with."""
    head, _, body = peer.written.rpartition(b"\r\n\r\n")
    assert b"connection: close" in head
    assert peer.has_eof
    return int(head.rpartition(b"HTTP/1.1 ")[2][:3]), json.loads(body)["error"]["message"]


# Requests one after the other.

REQUEST = st.one_of(
    st.just(("GET", "/", b"", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")),
    st.just(("GET", "/chunks", b"", b"GET /chunks HTTP/1.1\r\nHost: x\r\n\r\n")),
    st.just(("HEAD", "/", b"", b"\r\nHEAD / HTTP/1.1\r\nHost: x\r\n\r\n")),
    st.binary(max_size=30).map(
        lambda body: (
            "POST",
            "/p",
            body,
            b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body),
        )
    ),
    st.lists(st.binary(min_size=1, max_size=10), max_size=3).map(
        lambda chunks: (
            "PUT",
            "/q",
            b"".join(chunks),
            b"PUT /q HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n%b0\r\n\r\n"
            % b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks),
        )
    ),
)


@given(st.lists(REQUEST, min_size=1, max_size=5), st.lists(st.integers(0, 500), max_size=10))
def test_any_requests_in_any_pieces(requests, cuts):
    """All are answered, in order, one at a time, however their bytes are cut."""
    wire = b"".join(request[3] for request in requests)
    edges = [0, *sorted({min(cut, len(wire)) for cut in cuts}), len(wire)]
    app = App()
    peer = asyncio.run(ask(app, *(wire[a:b] for a, b in pairwise(edges)), b"", b""))
    expected = [
        (200, b"" if method == "HEAD" else f"{method} {path} {body!r}".encode())
        for method, path, body, _ in requests
    ]

    assert expected == answers_in(peer.written, [request[0] for request in requests])
    assert 1 == app.most_at_work
    assert not peer.is_closed
    assert not peer.is_paused


async def test_requests_ahead_wait_outside():
    """While one is at work, only a few KiB of the next are taken; none of them is begun."""
    app = Waiting()
    peer = Peer(make_server(app))
    for number in range(10_000):
        peer.send(GET % number)
        await run_pending(1)

    assert ["/0"] == [scope["path"] for scope in app.scopes]
    assert 10_000 * len(GET) - len(peer.inbox) < 100 << 10
    await app.sends[0]({"type": "http.response.body"})
    await run_pending()
    assert ["/0", "/1"] == [scope["path"] for scope in app.scopes]


async def test_answers_that_nobody_reads_hold_up_what_follows():
    """What waits for a reader stays small, on either side, and all goes on when it reads."""
    app = App()
    peer = Peer(make_server(app), takes_all=False)
    peer.send(b"".join(GET % number for number in range(10_000)))
    await run_pending(6000)

    assert peer.get_write_buffer_size() < 100 << 10
    assert len(peer.inbox) > 200 << 10
    assert len(app.scopes) == peer.written.count(b"HTTP/1.1 200")  # nothing is begun in vain
    peer.takes_all = True
    while len(app.scopes) < 10_000:
        peer.take(peer.get_write_buffer_size())
        await run_pending(1000)
    await run_pending()
    assert 10_000 == len(answers_in(peer.written, ["GET"] * 10_000))


async def test_a_body_that_is_not_taken_waits_outside():
    """So it is back-pressure that bounds it, not memory; it all arrives in the end."""
    begin = asyncio.Event()
    found = []

    async def slow(_scope, receive, send):
        await begin.wait()
        while True:
            message = await receive()
            found.append(len(message["body"]))
            if not message["more_body"]:
                break
        await send(START)
        await send({"type": "http.response.body"})

    peer = Peer(make_server(slow))
    peer.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" + bytes(1_000_000))
    await run_pending()
    assert len(peer.inbox) > 800_000
    begin.set()
    await run_pending(200)

    assert 1_000_000 == sum(found)
    assert max(found) <= 128 << 10


async def test_a_body_that_nobody_wants_is_thrown_away():
    """The answer does not wait for it, and the next request finds its own."""

    async def hasty(_scope, _receive, send):
        await send(START | {"headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    peer = Peer(make_server(hasty))
    peer.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + bytes(50_000))
    await run_pending()
    peer.send(bytes(50_000) + GET % 1)
    await run_pending()

    assert [(200, b""), (200, b"")] == answers_in(peer.written, ["POST", "GET"])


# Answers.


async def test_head_and_body_are_one_write():
    """Two would be two packets."""
    peer = Peer(make_server(App()))
    writes = []
    peer.write = writes.append
    peer.send(GET % 1)
    await run_pending()

    assert writes[0].startswith(b"HTTP/1.1 200 OK\r\ndate: ")
    assert writes[0].endswith(b"\r\n\r\nGET /")


async def test_http_1_0_ends_with_the_connection():
    """It knows no chunks, and no connection that stays."""
    peer = await ask(App(), b"GET /chunks HTTP/1.0\r\n\r\n")
    head, _, body = peer.written.partition(b"\r\n\r\n")

    assert b"GET /chunks b''" == body
    assert b"connection: close" in head
    assert b"chunked" not in head
    assert peer.is_closed


@pytest.mark.parametrize("status", [204, 304])
async def test_no_body_where_none_may_be(status):
    """Neither chunks nor a length are said of it."""

    async def empty(_scope, _receive, send):
        await send(START | {"status": status})
        await send({"type": "http.response.body"})

    peer = await ask(empty, GET % 1)

    assert peer.written.endswith(b"\r\n\r\n")
    assert b"chunked" not in peer.written
    assert not peer.is_closed


async def test_a_client_that_waits_for_leave_to_send():
    """It is told to go on when the body is asked for, and not before."""
    begin = asyncio.Event()

    async def late(scope, receive, send):
        await begin.wait()
        await App()(scope, receive, send)

    peer = Peer(make_server(late))
    peer.send(b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    await run_pending()
    assert b"" == peer.written
    begin.set()
    await run_pending()
    assert b"HTTP/1.1 100 Continue\r\n\r\n" == peer.written
    peer.send(b"ab")
    await run_pending()

    assert peer.written.endswith(b"POST / b'ab'")


@pytest.mark.parametrize("connection", [b"Connection: close\r\n", b"connection: TE, Close\r\n"])
async def test_a_client_that_wants_no_more(connection):
    """The connection ends with its answer, which says so; what was sent behind is not served."""
    app = App()
    peer = await ask(app, b"GET / HTTP/1.1\r\nHost: x\r\n%b\r\n" % connection + GET % 1)

    assert 1 == len(app.scopes)
    assert b"connection: close" in peer.written
    assert peer.has_eof


@pytest.mark.parametrize("header", [b"a\r\nb: c", b"a\nb", b"a\rb"])
async def test_a_header_cannot_bring_another(header):
    """An application that lets a line end through is answered for with a 500."""

    async def careless(_scope, _receive, send):
        await send(START | {"headers": [(b"x", header)]})

    assert 500 == refusal_in(await ask(careless, GET % 1))[0]


async def test_an_application_that_fails():
    """Before its answer it is a 500; in the middle, a connection that is cut."""

    async def fails(scope, _receive, send):
        if scope["path"] == "/2":
            await send(START)
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
        raise RuntimeError("no")

    assert (500, "Internal error") == refusal_in(await ask(fails, GET % 1))
    cut = await ask(fails, GET % 2)
    assert cut.written.endswith(b"\r\n\r\n1\r\nx\r\n")
    assert cut.is_closed


async def test_an_answer_that_is_not_what_it_says():
    """Longer or shorter than its length, it is cut, so that nobody takes it for whole."""

    async def short(_scope, _receive, send):
        await send(START | {"headers": [(b"content-length", b"5")]})
        await send({"type": "http.response.body", "body": b"abc", "more_body": True})
        await send({"type": "http.response.body"})

    assert (await ask(short, GET % 1)).is_closed


# What is no request, or too much of one.

SMALL = HttpRules(HeadBounds(400, 4, 100, 100), max_connections=100)


@given(st.lists(st.integers(1, 200), min_size=1, max_size=20))
def test_an_endless_head_is_refused_wherever_it_is_cut(sizes):
    """As soon as it is too large, with no more held than the bound."""

    async def attack():
        peer = Peer(make_server(App(), SMALL))
        peer.send(b"GET / HTTP/1.1\r\nHost: x\r\n")
        for size in sizes * 400:
            peer.send(b"A" * size)
            if peer.has_eof:
                break
        return peer

    status, message = refusal_in(asyncio.run(attack()))
    assert 431 == status
    assert "400 bytes" in message


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a: b\r\n" * 4 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\na: " + b"b" * 100 + b"\r\n\r\n", 431),
        (b"GET /" + b"a" * 150 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"GET /" + b"a" * 900, 414),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"nonsense\r\n\r\n", 400),
        (b"\r\n\r\nnonsense\r\n\r\n", 400),
    ],
)
async def test_refused_heads(sent, status):
    """Each with its status, and the reason in words."""
    app = App()
    peer = await ask(app, sent, b"more of it", rules=SMALL)

    assert status == refusal_in(peer)[0]
    assert [] == app.scopes


async def test_chunks_that_are_none():
    """A 400, and the application is told that nobody waits any more."""
    app = Waiting(first=b"")
    head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    peer = await ask(app, head, b"2\r\nab\r\nx\r\n")

    assert 400 == refusal_in(peer)[0]
    assert ["/"] == app.left


async def test_chunks_that_are_none_in_an_answer():
    """There is no second answer in the middle of the first: it is cut."""
    head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    peer = await ask(Waiting(first=b"begun"), head, b"x\r\n")

    assert 1 == peer.written.count(b"HTTP/1.1")
    assert peer.is_closed


# Time.


def after(server, seconds):
    return server.loop.time() + seconds


async def test_a_silent_connection_is_closed():
    """Once the time for a head is over, and no sooner."""
    server = make_server(App())
    peer = Peer(server)
    peer.connection.check_deadlines(after(server, TIMEOUTS.head_s - 1))
    assert not peer.is_closed
    peer.connection.check_deadlines(after(server, TIMEOUTS.head_s))

    assert peer.is_aborted
    assert b"" == peer.written


async def test_a_head_that_comes_slowly_is_refused():
    """Its every byte in time is not the whole of it in time."""
    server = make_server(App())
    peer = Peer(server)
    peer.send(b"GET / HTTP/1.1\r\n")
    peer.send(b"Host: x\r\n")
    peer.connection.check_deadlines(after(server, TIMEOUTS.head_s))

    assert 408 == refusal_in(peer)[0]
    peer.connection.check_deadlines(after(server, 100))
    assert peer.is_aborted


async def test_between_requests_there_is_more_time():
    """Then, from its first byte, the next head has as long as the first."""
    server = make_server(App())
    peer = Peer(server)
    peer.send(GET % 1)
    await run_pending()
    peer.connection.check_deadlines(after(server, TIMEOUTS.idle_s - 1))
    assert not peer.is_closed
    peer.send(b"G")
    peer.connection.check_deadlines(after(server, TIMEOUTS.head_s - 1))
    assert not peer.has_eof
    peer.connection.check_deadlines(after(server, TIMEOUTS.head_s))
    assert peer.has_eof

    resting = await ask(App(), GET % 1)
    resting.connection.check_deadlines(after(server, TIMEOUTS.idle_s))
    assert resting.is_closed
    assert not resting.is_aborted


async def test_empty_lines_are_no_way_to_stay():
    """The time runs from the first of them."""
    server = make_server(App())
    peer = Peer(server)
    peer.send(GET % 1)
    await run_pending()
    peer.send(b"\r\n")
    peer.connection.check_deadlines(after(server, TIMEOUTS.head_s))

    assert peer.is_closed


async def test_a_request_at_work_takes_as_long_as_it_takes():
    """How long is its application's business."""
    server = make_server(Waiting())
    peer = Peer(server)
    peer.send(GET % 1)
    await run_pending()
    peer.connection.check_deadlines(after(server, 100_000))

    assert not peer.is_closed


async def test_a_body_that_nobody_wants_has_a_time():
    """It is thrown away for as long as a head may take."""

    async def hasty(_scope, _receive, send):
        await send(START | {"headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    server = make_server(hasty)
    peer = Peer(server)
    peer.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n")
    await run_pending()
    peer.connection.check_deadlines(after(server, TIMEOUTS.head_s))

    assert peer.is_aborted


# Clients that leave, or do not read.


async def test_who_leaves_is_noticed():
    """The request at work is told, also where another was sent behind it."""
    app = Waiting()
    peer = Peer(make_server(app))
    peer.send(GET % 1 + GET % 2)
    await run_pending()
    peer.disconnect()
    await run_pending()

    assert ["/1"] == app.left
    assert 1 == len(app.scopes)


async def test_who_leaves_between_requests_leaves_nothing():
    """A request that was sent ahead is not begun for nobody."""
    app = App()
    peer = Peer(make_server(app))
    peer.send(GET % 1 + GET % 2)
    for _ in range(20):
        if peer.written:
            break
        await run_pending(1)
    peer.disconnect()
    await run_pending()

    assert 1 == len(app.scopes)


@pytest.fixture
async def stalled():
    """A client that takes nothing of its answer, and what serves it."""
    app = Waiting()
    peer = Peer(make_server(app), takes_all=False)
    peer.send(GET % 1)
    await run_pending()
    return peer, app


async def test_a_client_that_takes_nothing_is_cut(stalled):
    """Once the time is over, at once and with all that waits; its request's scope says why."""
    peer, app = stalled
    assert not peer.connection.check_deadlines(0)
    assert not peer.connection.check_deadlines(TIMEOUTS.stall_s - 0.1)
    assert not peer.is_aborted
    assert STALLED not in app.scopes[0]

    assert peer.connection.check_deadlines(TIMEOUTS.stall_s)
    await run_pending()
    assert peer.is_aborted
    assert STALLED in app.scopes[0]
    assert ["/1"] == app.left
    assert [(socket.SOL_SOCKET, socket.SO_LINGER)] == peer.options


async def test_a_slow_client_is_waited_for(stalled):
    """A byte within each timeout is enough, for ever."""
    peer, _ = stalled
    for second in range(0, 1000, 20):
        assert not peer.connection.check_deadlines(second)
        peer.take(1)


async def test_slow_but_as_fast_as_its_server(stalled):
    """As much waits at every look, but it is not the same."""
    peer, _ = stalled
    for second in range(0, 1000, 20):
        assert not peer.connection.check_deadlines(second)
        peer.connection.write(b"x")
        peer.take(1)


async def test_more_to_take_is_no_taking(stalled):
    """A comment now and then, added to what waits, does not hide that nobody reads."""
    peer, _ = stalled
    assert not peer.connection.check_deadlines(0)
    peer.connection.write(b": keep-alive\n\n")
    assert not peer.connection.check_deadlines(15)
    peer.connection.write(b": keep-alive\n\n")

    assert peer.connection.check_deadlines(30)


async def test_who_has_read_everything_may_be_silent(stalled):
    """A stream that has nothing to say is none that stands still."""
    peer, _ = stalled
    peer.take(peer.get_write_buffer_size())
    assert not peer.connection.check_deadlines(0)
    assert not peer.connection.check_deadlines(1000)
    peer.connection.write(b"x")
    assert not peer.connection.check_deadlines(1001)

    assert peer.connection.check_deadlines(1031)


async def test_whole_answers_that_nobody_reads():
    """They were made and charged; their memory comes back all the same."""
    server = make_server(App())
    peer = Peer(server, takes_all=False)
    peer.send(GET % 1)
    await run_pending()
    now_s = server.loop.time()
    assert not peer.connection.check_deadlines(now_s)

    assert peer.connection.check_deadlines(now_s + TIMEOUTS.stall_s)
    assert peer.is_aborted


async def test_writers_wait_for_room():
    """A stream goes on when its reader has taken what waits."""
    app = Waiting(first=b"x" * 100_000)
    peer = Peer(make_server(app), takes_all=False)
    peer.send(GET % 1)
    await run_pending()
    more = asyncio.create_task(app.sends[0]({"type": "http.response.body", "body": b"y"}))
    await run_pending()
    assert not more.done()
    peer.take(peer.get_write_buffer_size())
    await more

    assert peer.written.endswith(b"y\r\n0\r\n\r\n")


# The end of the server.


async def test_shutting_down():
    """Who rests is closed at once; who is at work has its answer first, and then is."""
    app = Waiting()
    server = make_server(app)
    resting, working = Peer(server), Peer(server)
    working.send(GET % 1)
    await run_pending()
    for peer in (resting, working):
        peer.connection.shut_down()
    assert (True, False) == (resting.is_closed, working.is_closed)
    await app.sends[0]({"type": "http.response.body", "body": b"end"})

    assert working.written.endswith(b"end\r\n0\r\n\r\n")
    assert working.is_closed


async def test_what_was_sent_ahead_on_a_connection_that_is_closed_is_not_begun():
    """A newcomer takes the place of who has just been answered; nothing of him is left."""
    app = App()
    server = make_server(app, HttpRules(max_connections=1))
    newcomers = []

    async def answering(scope, receive, send):
        await app(scope, receive, send)
        newcomers.append(Peer(server))  # before the next request has its turn

    server.app = answering
    peer = Peer(server)
    peer.send(GET % 1 + GET % 2)
    await run_pending()
    peer.disconnect()
    await run_pending()

    assert peer.is_aborted
    assert ["/1"] == [scope["path"] for scope in app.scopes]
    assert 1 == len(server.connections)


async def test_who_reads_a_last_answer_slowly_keeps_out_nobody():
    """With Connection: close too, an answer that is made is no work."""
    server = make_server(App(), HttpRules(max_connections=1))
    peer = Peer(server, takes_all=False)
    peer.send(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    await run_pending()
    newcomer = Peer(server)

    assert peer.is_aborted
    assert not newcomer.is_closed


async def test_one_connection_that_cannot_be_closed_keeps_no_other_one_open():
    """Whatever the system says of a socket, the time of all others goes on."""
    server = make_server(App(), HttpRules(timeouts=Timeouts(head_s=0.0), max_connections=9))
    broken, other = Peer(server), Peer(server)

    def refuse(*_):
        raise OSError("Transport endpoint is not connected")

    broken.setsockopt = refuse
    await server._check_all()

    assert other.is_aborted
    assert 0 == len(server.connections)
