"""A long wait before the first token: the stream is begun and kept alive, whatever comes of it."""

from __future__ import annotations

import json

import pytest

from stillhouse.catalogue.demo_models import DEMO_MODEL
from tests.faults.fault_server import last_row, run_fault_server

CRASH_SEED = 7
ENGINE = f"""
first_token_s = 0.5
faults = [{{ kind = "crash", at_token = 0, seed = {CRASH_SEED} }}]
[server]
keep_alive_s = 0.05
"""
CHAT = "/v1/openai/chat/completions"
MESSAGES = "/anthropic/v1/messages"
HELLO = {
    "model": DEMO_MODEL,
    "messages": [{"role": "user", "content": "Hello!"}],
    "max_tokens": 3,
    "stream": True,
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with run_fault_server(tmp_path_factory.mktemp("silence") / "home", ENGINE) as running:
        yield running


def events_of(server, path=CHAT, **fields):
    with (
        server.client() as client,
        client.stream("POST", path, json=HELLO | fields) as response,
    ):
        assert 200 == response.status_code
        return response.read().decode().strip().split("\n\n")


def test_comments_until_the_first_token(server):
    """Nothing but comments comes before the first chunk, and the answer is whole."""
    events = events_of(server)
    comments = [event for event in events if event == ": keep-alive"]

    assert 2 < len(comments)
    assert comments == events[: len(comments)]
    assert "data: [DONE]" == events[-1]
    assert ("SETTLED", 3) == (last_row(server.home).state, last_row(server.home).completion_tokens)


def test_anthropics_clients_get_pings(server):
    """Their own kind of event fills the silence."""
    events = events_of(server, MESSAGES)
    pings = [event for event in events if event.startswith("event: ping")]

    assert 2 < len(pings)
    assert events[-1].startswith("event: message_stop")


def test_what_fails_after_a_comment_is_an_error_event(server):
    """After the status was sent, the error is an event of the stream, and nothing is charged."""
    events = events_of(server, seed=CRASH_SEED)

    assert ": keep-alive" == events[0]
    assert "engine_crashed" == json.loads(events[-1].removeprefix("data: "))["error"]["code"]
    assert ("VOIDED", 0) == (last_row(server.home).state, last_row(server.home).cost_picousd)
