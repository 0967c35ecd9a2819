from __future__ import annotations

import asyncio
import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.api.http.sse import COMMENT, EventStream, escape_line_ends


class Client:
    """What reaches the other side, and when it has had enough."""

    def __init__(self, enough):
        self.messages = []
        self._enough = enough
        self.has_enough = asyncio.Event()

    async def send(self, message):
        self.messages.append(message)
        if len(self.bodies) >= self._enough:
            self.has_enough.set()

    @property
    def bodies(self):
        return [m["body"] for m in self.messages if m["type"] == "http.response.body"]


async def test_nothing_is_sent_before_the_first_event():
    """Until then the status is open, so that a refusal can have its own."""
    client = Client(1)
    stream = EventStream(client.send, [(b"a", b"b")], keep_alive=COMMENT)
    assert (False, []) == (stream.has_begun, client.messages)
    await stream.write(b"data: 1\n\n")
    await stream.write(b"data: 2\n\n", is_last=True)

    start, *bodies = client.messages
    assert 200 == start["status"]
    assert (b"a", b"b") in start["headers"]
    assert [(b"data: 1\n\n", True), (b"data: 2\n\n", False)] == [
        (message["body"], message["more_body"]) for message in bodies
    ]


async def test_a_silence_is_filled():
    """While nothing comes, comments go out; the first of them sends the status."""
    client = Client(3)
    stream = EventStream(client.send, [], keep_alive=COMMENT)
    with stream.kept_alive(0.001):
        await client.has_enough.wait()

    assert stream.has_begun
    assert "http.response.start" == client.messages[0]["type"]
    assert {COMMENT} == set(client.bodies)


async def test_a_busy_stream_has_no_comments():
    """Where something was written within the interval, nothing is added."""
    client = Client(50)
    stream = EventStream(client.send, [], keep_alive=COMMENT)
    with stream.kept_alive(60):
        for _ in range(50):
            await stream.write(b"data: 1\n\n")

    assert {b"data: 1\n\n"} == set(client.bodies)


async def test_it_ends_with_the_answer():
    """After the last event nothing is kept alive any more, also where writing failed."""
    client = Client(1)
    stream = EventStream(client.send, [], keep_alive=COMMENT)

    async def write() -> None:
        with stream.kept_alive(0.001):
            await client.has_enough.wait()
            raise ConnectionError

    with pytest.raises(ConnectionError):
        await write()
    num_bodies = len(client.bodies)
    waited = asyncio.Event()
    asyncio.get_running_loop().call_later(0.01, waited.set)
    await waited.wait()

    assert num_bodies == len(client.bodies)


async def test_a_reader_that_stands_still_is_not_kept_alive():
    """While a write waits for room, no comments gather behind it."""
    room = asyncio.Event()
    sent = []

    async def send(message):
        await room.wait()
        sent.append(message)

    stream = EventStream(send, [], keep_alive=COMMENT)
    with stream.kept_alive(0.001):
        write = asyncio.create_task(stream.write(b"data: 1\n\n"))
        waited = asyncio.Event()
        asyncio.get_running_loop().call_later(0.02, waited.set)
        await waited.wait()
        comments = [task for task in asyncio.all_tasks() if task.get_name() == "keep-alive"]
        room.set()
        await write

    assert [] == comments
    assert [b"data: 1\n\n"] == [message["body"] for message in sent[1:]]


async def test_a_status_that_was_not_sent_is_still_open():
    """A write that is given up before it has begun leaves a refusal its own status."""

    async def never(_message):
        await asyncio.Event().wait()

    stream = EventStream(never, [], keep_alive=COMMENT)
    write = asyncio.create_task(stream.write(COMMENT))
    await asyncio.sleep(0)
    write.cancel()
    await asyncio.gather(write, return_exceptions=True)

    assert not stream.has_begun


LINE_ENDS = [
    char for char in map(chr, range(sys.maxunicode + 1)) if len(f"a{char}b".splitlines()) > 1
]


def test_json_is_one_line():
    """Of all characters at which Python ends a line, none is left."""
    line = escape_line_ends(json.dumps(LINE_ENDS, ensure_ascii=False).encode()).decode()

    assert 10 == len(LINE_ENDS)
    assert [line] == line.splitlines()
    assert LINE_ENDS == json.loads(line)


@given(st.text())
def test_it_is_the_same_value(text):
    """Whatever the text, it comes back."""
    assert text == json.loads(escape_line_ends(json.dumps(text, ensure_ascii=False).encode()))
