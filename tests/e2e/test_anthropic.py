"""The endpoint of Anthropic's messages, as Anthropic's clients use it."""

from __future__ import annotations

import json

import httpx
import pytest

from stillhouse.catalogue.demo_models import DEMO_MODEL

MESSAGES = "/anthropic/v1/messages"
HELLO = {
    "model": DEMO_MODEL,
    "messages": [{"role": "user", "content": "Hello!"}],
    "temperature": 0,
}


@pytest.fixture
def client(server):
    headers = {"x-api-key": server.key, "anthropic-version": "2023-06-01"}
    with httpx.Client(base_url=server.url, headers=headers, timeout=120) as client:
        yield client


def events_of(response):
    *blocks, rest = response.text.split("\n\n")
    assert "" == rest
    events = []
    for block in blocks:
        name, data = block.split("\n")
        events.append(json.loads(data.removeprefix("data: ")))
        assert f"event: {events[-1]['type']}" == name
    return events


def text_of(message):
    return "".join(block["text"] for block in message["content"] if block["type"] == "text")


def test_message(client):
    """A message has thoughts and text, says why it ended, and what it cost."""
    response = client.post(MESSAGES, json=HELLO)
    message = response.json()

    assert 200 == response.status_code, message
    assert f"msg_{response.headers['request-id']}" == message["id"]
    assert ["thinking", "text"] == [block["type"] for block in message["content"]]
    assert "hello" in text_of(message).lower()
    assert ("end_turn", None) == (message["stop_reason"], message["stop_sequence"])
    assert 0 < message["usage"]["estimated_cost"]
    assert 0 < message["usage"]["output_tokens_details"]["thinking_tokens"]


@pytest.mark.parametrize("path", [MESSAGES, "/v1/messages"])
def test_stream_is_the_whole_message(client, path):
    """Block by block, the stream adds up to the whole message, with the same counts."""
    whole = client.post(path, json=HELLO).json()
    events = events_of(client.post(path, json=HELLO | {"stream": True}))

    assert ["message_start", "content_block_start"] == [event["type"] for event in events[:2]]
    assert ["content_block_stop", "message_delta", "message_stop"] == [
        event["type"] for event in events[-3:]
    ]
    deltas = [event["delta"] for event in events if event["type"] == "content_block_delta"]
    assert text_of(whole) == "".join(delta.get("text", "") for delta in deltas)
    assert whole["content"][0]["thinking"] == "".join(d.get("thinking", "") for d in deltas)
    assert whole["usage"]["output_tokens"] == events[-2]["usage"]["output_tokens"]
    usage = events[-2]["usage"]
    start = events[0]["message"]["usage"]
    assert (start["input_tokens"], start["cache_read_input_tokens"]) == (
        usage["input_tokens"],
        usage["cache_read_input_tokens"],
    )


def test_max_tokens_and_stop_sequences(client):
    """Each way to end an answer early is told by its name."""
    cut = client.post(MESSAGES, json=HELLO | {"max_tokens": 3}).json()
    word = text_of(client.post(MESSAGES, json=HELLO).json()).split()[1]
    stopped = client.post(MESSAGES, json=HELLO | {"stop_sequences": [word]}).json()

    assert ("max_tokens", 3) == (cut["stop_reason"], cut["usage"]["output_tokens"])
    assert ("stop_sequence", word) == (stopped["stop_reason"], stopped["stop_sequence"])
    assert word not in text_of(stopped)


def test_the_same_prompt_as_through_openais_endpoint(server, client):
    """A system prompt and a turn cost the same tokens through either endpoint."""
    message = client.post(MESSAGES, json=HELLO | {"system": "You are a pirate."}).json()
    conversation = [{"role": "system", "content": "You are a pirate."}, *HELLO["messages"]]
    completion = client.post(
        "/v1/openai/chat/completions", json=HELLO | {"messages": conversation}
    ).json()

    usage = message["usage"]
    assert completion["usage"]["prompt_tokens"] == (
        usage["input_tokens"] + usage["cache_read_input_tokens"]
    )
    assert completion["choices"][0]["message"]["content"] == text_of(message)


def test_the_system_may_speak_late(client):
    """What Claude Code says amid a conversation is read, whatever the chat template knows."""
    turns = [*HELLO["messages"], {"role": "system", "content": "Be brief."}]
    response = client.post(
        MESSAGES, json=HELLO | {"system": "You are a pirate.", "messages": turns}
    )

    assert 200 == response.status_code, response.text


def test_count_tokens(server, client):
    """A prompt is counted exactly as it will be charged, and counting is free."""
    before = server.command("usage").stdout
    asked = {name: HELLO[name] for name in ("model", "messages")} | {"system": "Be brief."}
    response = client.post(f"{MESSAGES}/count_tokens", json=asked)
    after = server.command("usage").stdout
    usage = client.post(MESSAGES, json=asked | {"max_tokens": 1}).json()["usage"]

    assert {"input_tokens": usage["input_tokens"] + usage["cache_read_input_tokens"]} == (
        response.json()
    )
    assert before == after


def test_a_named_request_is_told_again(client):
    """Under an Idempotency-Key a stream is told again as the message that it was."""
    headers = {"Idempotency-Key": "anthropic-1"}
    whole = client.post(MESSAGES, json=HELLO, headers=headers)
    again = client.post(MESSAGES, json=HELLO, headers=headers)

    assert whole.json() == again.json()
    assert "true" == again.headers["idempotent-replayed"]


@pytest.mark.parametrize(
    ("asked", "status", "type_", "said"),
    [
        (("POST", MESSAGES, {}), 422, "invalid_request_error", "model: Field required"),
        (
            ("POST", MESSAGES, HELLO | {"model": "claude"}),
            404,
            "not_found_error",
            "claude",
        ),
        (
            ("POST", f"{MESSAGES}/count_tokens", HELLO | {"model": "claude"}),
            404,
            "not_found_error",
            "claude",
        ),
        (
            (
                "POST",
                MESSAGES,
                HELLO | {"messages": [{"role": "user", "content": [{"type": "image"}]}]},
            ),
            405,
            "invalid_request_error",
            "Multimodal is not supported for model",
        ),
        (
            (
                "POST",
                MESSAGES,
                HELLO | {"messages": [{"role": "user", "content": "Hello! " * 20_000}]},
            ),
            400,
            "invalid_request_error",
            "exceeds maximum input length",
        ),
        (("GET", MESSAGES, None), 405, "invalid_request_error", "POST"),
        (("GET", "/anthropic/v1/nothing", None), 404, "not_found_error", "/anthropic/v1/nothing"),
    ],
)
def test_errors_in_anthropics_envelope(client, asked, status, type_, said):
    """Whatever is refused under Anthropic's paths is refused as its clients read it."""
    method, path, body = asked
    response = client.request(method, path, json=body)
    error = response.json()

    assert status == response.status_code
    assert ["type", "error", "request_id"] == list(error)
    assert ("error", type_) == (error["type"], error["error"]["type"])
    assert said in error["error"]["message"]
    assert response.headers["request-id"] == error["request_id"]


def test_a_wrong_key(server):
    """A key that was never made is refused as Anthropic's clients read it."""
    response = httpx.post(server.url + MESSAGES, json=HELLO, headers={"x-api-key": "sk-ant-x"})

    assert 401 == response.status_code
    assert "authentication_error" == response.json()["error"]["type"]
