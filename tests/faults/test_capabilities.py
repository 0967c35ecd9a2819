"""Every API dialect refuses with a 4xx, by the field's name, what the model's engine cannot do."""

from __future__ import annotations

import pytest

from tests.faults.fault_server import CHAT, HELLO, rows, run_fault_server

MODEL = HELLO["model"]
FORMAT = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}
REQUESTS = {
    "chat": (CHAT, {**HELLO, "response_format": FORMAT}, "response_format"),
    "chat, streamed": (
        CHAT,
        {**HELLO, "stream": True, "presence_penalty": 1},
        "presence_penalty",
    ),
    "text": (
        "/v1/openai/completions",
        {"model": MODEL, "prompt": "Hello", "frequency_penalty": 1},
        "frequency_penalty",
    ),
    "inference": (
        f"/v1/inference/{MODEL}",
        {"input": "Hello", "repetition_penalty": 1.2},
        "repetition_penalty",
    ),
    "responses": (
        "/v1/responses",
        {
            "model": MODEL,
            "input": "Hello",
            "text": {"format": {"type": "json_schema", "name": "a", "schema": {"type": "object"}}},
        },
        "response_format",
    ),
    "anthropic": (
        "/v1/messages",
        {
            "model": MODEL,
            "max_tokens": 5,
            "messages": HELLO["messages"],
            "output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}},
        },
        "response_format",
    ),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with run_fault_server(tmp_path_factory.mktemp("capabilities") / "home") as server:
        yield server


@pytest.mark.parametrize("case", REQUESTS)
def test_what_the_engine_cannot_honour_is_refused(server, case):
    """The fake engine has neither penalties nor constraints; nothing of it is held or charged."""
    path, body, param = REQUESTS[case]
    with server.client() as client:
        answer = client.post(path, json=body)
    assert 405 == answer.status_code, answer.text
    assert f"{param} cannot be honoured: this model's engine has no" in answer.text
    assert {} == rows(server.home)
