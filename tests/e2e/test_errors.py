"""The errors of requests that cannot be served."""

from __future__ import annotations

import httpx
import pytest

from stillhouse.catalogue.demo_models import DEMO_MODEL

CHAT = "/v1/openai/chat/completions"
HELLO = {"model": DEMO_MODEL, "messages": [{"role": "user", "content": "Hello!"}]}


def error_of(response):
    error = response.json()["error"]
    assert ["message", "type", "param", "code"] == list(error)
    return error


@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": "Bearer"}, {"Authorization": "Basic c3M6"}]
)
def test_no_key(server, headers):
    """Without a key there is a 401 that says so."""
    response = httpx.post(server.url + CHAT, json=HELLO, headers=headers)

    assert 401 == response.status_code
    assert "Not authenticated" in error_of(response)["message"]
    assert "Bearer" == response.headers["www-authenticate"]


@pytest.mark.parametrize("key", ["sh_wrong", "x" * 5000, "sk-ümlaut"])
def test_wrong_key(server, key):
    """A key that was never made is a 401, whatever its shape."""
    headers = {"Authorization": f"Bearer {key}".encode()}

    assert 401 == httpx.post(server.url + CHAT, json=HELLO, headers=headers).status_code


@pytest.mark.parametrize(
    "path", ["/v1/chat/completions", "/metric", "/", "/v1/openai/modelsx", "/anthropic/v1/messages"]
)
def test_every_other_path_needs_a_key(server, path):
    """A path that is not listed as public is refused before it is looked at."""
    assert 401 == httpx.get(server.url + path).status_code


def test_unknown_path(server):
    """With a key, a path that does not exist is a 404 in the same envelope."""
    with server.client() as client:
        response = client.get("/v1/nothing")

    assert 404 == response.status_code
    assert "/v1/nothing" in error_of(response)["message"]


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize("path", ["/livez", CHAT, "/v1/nothing", "/v1/openai/models"])
def test_every_response_has_an_id_of_ours(server, method, path):
    """Every response has a new id, which is never the client's own."""
    ids = [
        httpx.request(
            method, server.url + path, headers={**server.headers, "x-request-id": "mine"}
        ).headers["x-request-id"]
        for _ in range(2)
    ]

    assert 2 == len({*ids, "mine"} - {"mine"})


def test_a_completions_id_is_its_requests_id(server):
    """The id that a client sees is the one in the log and in the ledger."""
    with server.client() as client:
        response = client.post(CHAT, json=HELLO)

    assert f"chatcmpl-{response.headers['x-request-id']}" == response.json()["id"]


def test_unknown_model(server):
    """An unknown model is a 404 that names what is loaded."""
    with server.client() as client:
        response = client.post(CHAT, json=HELLO | {"model": "openai/gpt-5"})

    assert 404 == response.status_code
    error = error_of(response)
    assert "model_not_found" == error["code"]
    assert "openai/gpt-5" in error["message"]
    assert DEMO_MODEL in error["message"]


def test_known_model_that_is_not_loaded(server):
    """A model of the catalogue that is not served is a 404 that says just that."""
    with server.client() as client:
        response = client.post(CHAT, json=HELLO | {"model": "deepseek-ai/DeepSeek-V3.1"})

    assert 404 == response.status_code
    assert "not served here" in error_of(response)["message"]
    assert DEMO_MODEL in error_of(response)["message"]


def test_prompt_longer_than_the_context(server):
    """A prompt over the context is a 400 that names both numbers."""
    long = [{"role": "user", "content": "lamb " * 5000}]
    with server.client() as client:
        listed = client.get("/v1/openai/models").json()["data"][0]
        response = client.post(CHAT, json=HELLO | {"messages": long})

    assert 400 == response.status_code
    error = error_of(response)
    limit = listed["metadata"]["context_length"] - 1
    assert error["message"].startswith("Requested input length ")
    assert error["message"].endswith(f"exceeds maximum input length {limit}")
    assert "context_length_exceeded" == error["code"]


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'"hello"', b'{"model": "x"', b"\xff\xfe", b'{"a":' * 20_000],
)
def test_malformed_json(server, body):
    """A body that is not a JSON object is a 422."""
    with server.client() as client:
        response = client.post(CHAT, content=body)

    assert 422 == response.status_code
    assert "invalid_request_error" == error_of(response)["type"]


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages.0.content"),
        ({"messages": [{"role": "user"}]}, "messages.0.content"),
        ({"temperature": 2.5}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"top_k": 1000}, "top_k"),
        ({"min_p": -0.1}, "min_p"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": 1_000_001}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_tokens": 1, "max_completion_tokens": 2}, "max_completion_tokens"),
        ({"stop": [""]}, "stop.0"),
        ({"stop": ["x"] * 17}, "stop"),
        ({"stream": "yes"}, "stream"),
        ({"seed": 2**64}, "seed"),
        ({"n": 5}, "n"),
        ({"tools": [{"type": "function"}]}, "tools.0.function"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"logit_bias": {"2000000000": 1}}, "logit_bias"),
        ({"chat_template": "{{ 1 }}"}, "chat_template"),
    ],
)
def test_wrong_fields(server, change, param):
    """A field that cannot be honoured is a 422 that names it."""
    with server.client() as client:
        response = client.post(CHAT, json=HELLO | change)

    assert 422 == response.status_code
    assert param == error_of(response)["param"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"tools": [{"type": "function", "function": {"name": "f"}}]},
            f"Tool calling is not supported for model: {DEMO_MODEL}",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            f"Multimodal is not supported for model: {DEMO_MODEL}",
        ),
    ],
)
def test_what_the_model_cannot_do(server, change, message):
    """DeepInfra's status and words for features that a model lacks."""
    with server.client() as client:
        response = client.post(CHAT, json=HELLO | change)

    assert 405 == response.status_code
    assert message in error_of(response)["message"]


@pytest.mark.parametrize(
    "change",
    [
        {"n": 1, "presence_penalty": 0, "tools": [], "logprobs": False, "user": "u1"},
        {"response_format": {"type": "text"}, "parallel_tool_calls": True, "metadata": {"a": "b"}},
        {"max_tokens": None, "stop": None, "seed": None, "stream": None, "stream_options": None},
    ],
)
def test_values_that_ask_for_nothing_are_let_through(server, change):
    """Fields that clients send with values that ask for nothing do not disturb."""
    with server.client() as client:
        response = client.post(CHAT, json=HELLO | change)

    assert 200 == response.status_code


def test_body_larger_than_allowed(server):
    """A body over the limit is a 413."""
    with server.client() as client:
        response = client.post(CHAT, content=b" " * (9 << 20))

    assert 413 == response.status_code
