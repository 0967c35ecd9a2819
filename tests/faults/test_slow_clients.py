"""Slow clients get every byte; clients that read nothing are disconnected."""

from __future__ import annotations

import json
from contextlib import ExitStack

import pytest

from tests.faults.bare_client import BareClient
from tests.faults.fault_server import (
    CHAT,
    cost_picousd,
    last_row,
    rows,
    run_fault_server,
    witness_log,
)

ENGINE = """
token_interval_s = 0.001
[server]
stall_timeout_s = 0.4
keep_alive_s = 0.1
"""
LONG = 1900  # tokens, in more bytes than gateway and system hold for one stream
RECEIVE_BYTES = 2048


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with run_fault_server(tmp_path_factory.mktemp("slow-clients") / "home", ENGINE) as running:
        yield running


def narrow_client(server, headers=None, **fields):
    """A client whose system takes little for it."""
    return BareClient(server, headers, receive_bytes=RECEIVE_BYTES, **fields)


@pytest.mark.parametrize("path", [CHAT, "/v1/openai/completions", "/anthropic/v1/messages"])
def test_who_reads_nothing_is_cut(server, path):
    """The generation ends as slow_client, and charged is what the engine had made."""
    num_cut = len(server.alarms("clients_did_not_read"))
    with narrow_client(server, path=path, prompt="Hello!", max_tokens=LONG):
        server.wait_until(lambda: len(server.alarms("clients_did_not_read")) > num_cut)
        server.wait_until(lambda: server.outstanding() == 0)
    row = last_row(server.home)

    assert ("SETTLED", "slow_client", "engine") == (row.state, row.outcome, row.usage_source)
    assert len(witness_log(server.home)[row.request_id].token_ids) == row.completion_tokens
    assert 100 < row.completion_tokens <= LONG
    assert cost_picousd(row.prompt_tokens, row.completion_tokens) == row.cost_picousd


def test_many_that_read_nothing(server):
    """All of them are disconnected, and another client reads its whole answer."""
    before = rows(server.home).keys()
    with ExitStack() as clients:
        for _ in range(10):
            clients.enter_context(narrow_client(server, max_tokens=LONG))
        with BareClient(server, max_tokens=100) as healthy:
            *_, finish, done = healthy.events()
        server.wait_until(lambda: server.outstanding() == 0)
    new = [row for request_id, row in rows(server.home).items() if request_id not in before]

    assert (100, None) == (finish["usage"]["completion_tokens"], done)
    assert ["length"] + ["slow_client"] * 10 == sorted(row.outcome for row in new)


def test_slow_and_steady_gets_every_byte(tmp_path):
    """A client that takes a little at a time reads as many tokens as it pays for."""
    with (
        run_fault_server(tmp_path / "home", "token_interval_s = 0.001\n") as server,
        narrow_client(server, max_tokens=LONG) as client,
    ):
        text = b"".join(iter(lambda: client.receive(700), b""))
        server.wait_until(lambda: server.outstanding() == 0)
    events = [line for line in text.split(b"\n") if line.startswith(b"data: {")]
    finish = json.loads(events[-1].removeprefix(b"data: "))

    assert text.rstrip(b"\r\n0").endswith(b"data: [DONE]")
    assert LONG == finish["usage"]["completion_tokens"] == len(events) - 2  # role and finish
    assert "length" == last_row(server.home).outcome


def test_a_whole_answer_that_nobody_reads_is_let_go(server):
    """The answer is charged, and the connection's memory is released after a timeout."""
    num_cut = len(server.alarms("clients_did_not_read"))
    fields = {"stream": False, "prompt": "Hello!", "logprobs": 20, "max_tokens": LONG}
    with narrow_client(server, path="/v1/openai/completions", **fields) as client:
        server.wait_until(lambda: len(server.alarms("clients_did_not_read")) > num_cut)
        with pytest.raises(ConnectionResetError):
            list(iter(lambda: client.receive(1 << 16), b""))

    assert ("SETTLED", "length", LONG) == (
        last_row(server.home).state,
        last_row(server.home).outcome,
        last_row(server.home).completion_tokens,
    )


def test_who_named_its_request_finds_its_answer(server):
    """The connection is cut, and the generation goes on for when the client asks again."""
    name = {"Idempotency-Key": '"slow-1"'}
    num_cut = len(server.alarms("clients_did_not_read"))
    with narrow_client(server, name, max_tokens=LONG):
        server.wait_until(lambda: len(server.alarms("clients_did_not_read")) > num_cut)
        server.wait_until(lambda: server.outstanding() == 0)
    with BareClient(server, name, max_tokens=LONG) as client:
        *_, finish, done = client.events()

    assert (LONG, None) == (finish["usage"]["completion_tokens"], done)
    assert ("SETTLED", "length") == (last_row(server.home).state, last_row(server.home).outcome)
