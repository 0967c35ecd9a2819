"""What comes over a socket, as records."""

from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.clock import SystemClock
from stillhouse_loadgen.client.chat_client import Stopwatch, Target, open_client
from stillhouse_loadgen.client.load_key import LoadKey
from stillhouse_loadgen.client.response_stream import ResponseStream
from stillhouse_loadgen.errors import ArgumentError
from stillhouse_loadgen.record import RequestRecord
from tests.unit.loadgen.scripted_server import (
    answer,
    delta,
    ending,
    events,
    refusal,
    scripted_server,
    stream,
)

QUESTION = [{"role": "user", "content": "Hello!"}]


def new_record():
    return RequestRecord(
        number=0, conversation=0, turn=0, key="key 1", max_tokens=9, intended_s=0.0
    )


async def asked(url, *, extra=None, timeout_s=60.0, key="sh_a"):
    record = new_record()
    target = Target(url, "a/model", extra or {}, timeout_s)
    async with open_client(target) as client:
        text = await client.complete(
            record, QUESTION, LoadKey("key 1", key), Stopwatch(SystemClock())
        )
    return record, text


async def test_whole_answer():
    """Text, counts, cost and reason are written down; times rise."""
    usage = {"prompt_tokens_details": {"cached_tokens": 4}, "estimated_cost": 0.25}
    async with scripted_server(answer("Good", " day", "!", **usage)) as server:
        record, text = await asked(server.url)

    assert ("Good day!", 200, None, "stop") == (
        text,
        record.status,
        record.failure,
        record.finish_reason,
    )
    assert (7, 4, 3, 0.25) == (
        record.prompt_tokens,
        record.cached_tokens,
        record.completion_tokens,
        record.cost_usd,
    )
    assert 0 < record.sent_s <= record.first_token_s <= record.end_s
    assert 2 == len(record.gaps_s)


async def test_what_is_sent():
    """A stream with its usage is asked for, with the key, and with fields of the user's own."""
    async with scripted_server(answer("Hi")) as server:
        await asked(server.url, extra={"temperature": 0})
        await asked(server.url, key="")

    assert {
        "model": "a/model",
        "messages": QUESTION,
        "max_tokens": 9,
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0,
    } == server.asked[0].body
    assert ["Bearer sh_a", None] == [a.headers.get("authorization") for a in server.asked]


async def test_tokens_are_never_counted_in_chunks():
    """Three chunks that the server calls forty tokens are forty; without usage nobody knows."""
    without = stream(events(delta("a"), delta("b", finish_reason="length")))
    async with scripted_server(answer("a", "b", "c", completion_tokens=40), without) as server:
        told, _ = await asked(server.url)
        untold, _ = await asked(server.url)

    assert 40 == told.completion_tokens
    assert (None, None, True) == (
        untold.completion_tokens,
        untold.prompt_tokens,
        untold.is_whole,
    )


async def test_refusal():
    """A 429 is written down with what it says, and when to come back."""
    async with scripted_server(refusal(429, "Model busy", Retry_After="2")) as server:
        record, text = await asked(server.url)

    assert ("", 429, "http_429", "Model busy", "2", None) == (
        text,
        record.status,
        record.failure,
        record.message,
        record.retry_after,
        record.first_token_s,
    )
    assert record.end_s is not None


async def test_redirect_is_a_failure():
    """A key is never sent on to where somebody else says."""
    async with scripted_server(refusal(307, "There", Location="http://127.0.0.1:9/")) as server:
        record, _ = await asked(server.url)

    assert "http_307" == record.failure


@pytest.mark.parametrize(
    ("sent", "failure"),
    [
        pytest.param(stream(events(delta("a"), done=False), is_whole=False), "disconnected"),
        pytest.param(b"", "disconnected"),
        pytest.param(stream(events(delta("a"), done=False)), "truncated"),
        pytest.param(
            stream(events(delta("a"), {"error": {"message": "It broke"}}, done=False)),
            "stream_error",
        ),
        pytest.param(stream(b"data: {\n\n"), "bad_answer"),
        pytest.param(stream(b'data: {"choices": 3}\n\n'), "bad_answer"),
        pytest.param(stream(b"data: \xff\n\n"), "bad_answer"),
    ],
    ids=["dies", "hangs-up", "no-end", "error-event", "no-json", "no-chunk", "no-utf8"],
)
async def test_answers_that_fail(sent, failure):
    """Whatever goes wrong with a stream has a name, and an end."""
    async with scripted_server(sent) as server:
        record, _ = await asked(server.url)

    assert failure == record.failure
    assert record.message
    assert record.end_s is not None
    assert not record.is_whole


async def test_what_came_before_it_failed_is_kept():
    """The first token of a stream that broke was still seen."""
    chunks = events(delta("a"), delta("b"), {"error": {"message": "It broke"}}, done=False)
    async with scripted_server(stream(chunks)) as server:
        record, text = await asked(server.url)

    assert ("ab", "It broke", 1) == (text, record.message, len(record.gaps_s))


async def test_nobody_listens():
    """A port without a server is a failure to connect, not a crash."""
    async with scripted_server(answer("Hi")) as server:
        url = server.url
    record, _ = await asked(url)

    assert "connect" == record.failure


async def test_server_that_never_answers():
    """After its time a request has failed."""
    has_left = asyncio.Event()

    async def say_nothing(reader, writer):
        await reader.read()
        writer.close()
        await writer.wait_closed()
        has_left.set()

    never = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    async with never:
        port = never.sockets[0].getsockname()[1]
        record, _ = await asked(f"http://127.0.0.1:{port}", timeout_s=0.01)
        await has_left.wait()

    assert ("timeout", "no end after 0.01 s") == (record.failure, record.message)


@pytest.mark.parametrize("field", ["content", "reasoning_content", "reasoning"])
def test_reasoning_is_a_first_token_too(field):
    """The first text of any kind counts, the role alone does not; only content goes on."""
    record, chunk = new_record(), {"choices": [{"delta": {field: "Hm"}}]}
    answer = ResponseStream(record)
    answer.feed(events({"choices": [{"delta": {"role": "assistant", "content": ""}}]}), 1.0)
    assert record.first_token_s is None
    answer.feed(events(chunk), 2.0)

    assert (2.0, "Hm" if field == "content" else "") == (record.first_token_s, answer.text)


def test_answer_without_words_has_a_first_token():
    """Where nothing but the end comes, the end is what came first."""
    record = new_record()
    ResponseStream(record).feed(events(*ending(completion_tokens=0)), 3.0)

    assert (3.0, 0) == (record.first_token_s, record.completion_tokens)


TEXTS = st.lists(st.text(min_size=1), min_size=1, max_size=4)


@given(TEXTS, st.data(), st.sampled_from([b"\n", b"\r\n"]))
def test_any_split_reads_the_same(texts, data, newline):
    """However the bytes of a stream are cut, and its lines ended, the same is read from it."""
    chunks = [*map(delta, texts), *ending(completion_tokens=len(texts))]
    lines = [f"data: {json.dumps(chunk, ensure_ascii=False)}" for chunk in chunks]
    body = b"".join(line.encode() + newline * 2 for line in [": a comment", *lines, "data:[DONE]"])
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=6)))
    record = new_record()
    answer = ResponseStream(record)
    for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True):
        answer.feed(body[start:end], 1.0)
    answer.end(2.0)

    assert (None, "".join(texts), len(texts) - 1) == (
        record.failure,
        answer.text,
        len(record.gaps_s),
    )


@pytest.mark.parametrize(
    ("url", "where"),
    [
        ("http://h:1", "http://h:1/v1/chat/completions"),
        ("http://h:1/", "http://h:1/v1/chat/completions"),
        ("https://h/v1/openai/", "https://h/v1/openai/chat/completions"),
    ],
)
def test_url_is_as_clients_take_it(url, where):
    """Without a path it is /v1, with one it is what stands there."""
    assert where == Target(url, "m", {}, 1).chat_url


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://h/v1", "http://", "http://h/v1?a=b"])
def test_other_urls_are_refused(url):
    """The message says what a URL looks like."""
    with pytest.raises(ArgumentError, match="is not the URL of a server; write http://"):
        Target(url, "m", {}, 1)


def test_passwords_in_urls_are_refused():
    """They would stand in every report."""
    with pytest.raises(ArgumentError, match="--key") as raised:
        Target("http://user:secret@h/v1", "m", {}, 1)
    assert "secret" not in raised.value.message
