"""The client hangs up, at every chunk, in every way: charged is what the engine had made."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from tests.faults.bare_client import LEAVE, BareClient
from tests.faults.fault_server import (
    cost_picousd,
    last_row,
    rows,
    run_fault_server,
    witness_log,
)

ENGINE = "first_token_s = 0.02\ntoken_interval_s = 0.005\n"
LONG, SHORT = 1500, 4  # tokens; the first takes 8 s, and no client here waits for its end
NUM_EVENTS = 1 + SHORT + 1 + 1  # role, tokens, finish, [DONE]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with run_fault_server(tmp_path_factory.mktemp("client-leaves") / "home", ENGINE) as running:
        yield running


def open_client(server, **fields):
    """A client whose request is in the ledger, so that leaving finds something to end."""
    num_rows = len(rows(server.home))
    client = BareClient(server, **fields)
    server.wait_until(lambda: len(rows(server.home)) == num_rows + 1)
    return client


def row_and_testimony(server):
    server.wait_until(lambda: server.outstanding() == 0)
    row = last_row(server.home)
    assert row.cost_picousd == cost_picousd(row.prompt_tokens, row.completion_tokens)
    assert ("SETTLED", "engine") == (row.state, row.usage_source)
    return row, witness_log(server.home)[row.request_id]


@pytest.mark.parametrize("num_events", range(22))
@pytest.mark.parametrize("leave", LEAVE)
def test_leaving_in_mid_stream(server, leave, num_events):
    """A stream cut after any chunk stops, and its row has the tokens of the engine's own log."""
    with open_client(server, max_tokens=LONG) as client:
        client.read(num_events)
        LEAVE[leave](client)
        row, testimony = row_and_testimony(server)

    assert ("client_disconnect", "cancelled") == (row.outcome, testimony.finish)
    assert len(testimony.token_ids) == row.completion_tokens
    assert num_events - 1 <= row.completion_tokens < LONG


@pytest.mark.parametrize("num_events", [NUM_EVENTS - 2, NUM_EVENTS - 1, NUM_EVENTS])
@pytest.mark.parametrize("leave", LEAVE)
def test_leaving_at_the_end(server, leave, num_events):
    """A client that disconnects at the end is charged as a complete answer."""
    with open_client(server, max_tokens=SHORT) as client:
        client.read(num_events)
        LEAVE[leave](client)
        row, testimony = row_and_testimony(server)

    assert ("length", "length", SHORT) == (row.outcome, testimony.finish, row.completion_tokens)


@pytest.mark.parametrize("leave", LEAVE)
def test_leaving_before_a_whole_answer(server, leave):
    """Without a stream too, who leaves ends the generation and is charged what was made."""
    with open_client(server, max_tokens=LONG, stream=False) as client:
        LEAVE[leave](client)
        row, testimony = row_and_testimony(server)

    assert ("client_disconnect", "cancelled") == (row.outcome, testimony.finish)
    assert len(testimony.token_ids) == row.completion_tokens < LONG


@pytest.mark.parametrize("leave", LEAVE)
def test_leaving_at_once(server, leave):
    """A client that disconnects before its request is read leaves a settled row, or none."""
    for _ in range(20):
        with BareClient(server, max_tokens=LONG) as client:
            LEAVE[leave](client)
    with BareClient(server, max_tokens=SHORT) as client:
        assert NUM_EVENTS == len(list(client.events()))
    server.wait_until(lambda: server.outstanding() == 0)

    assert {"SETTLED", "VOIDED"} >= {row.state for row in rows(server.home).values()}
    assert [] == server.alarms("request failed")


@pytest.mark.parametrize("num_events", [1, 4, 9])  # who leaves before has a test of its own
@pytest.mark.parametrize("leave", LEAVE)
def test_leaving_several_answers(server, leave, num_events):
    """All answers of a request stop, and its row has the tokens of each."""
    with open_client(server, max_tokens=LONG, n=4) as client:
        client.read(num_events)
        LEAVE[leave](client)
        row, testimony = row_and_testimony(server)

    assert ("client_disconnect", "cancelled") == (row.outcome, testimony.finish)
    assert len(testimony.token_ids) == row.completion_tokens < LONG


def test_leaving_several_answers_at_once(server):
    """A client that disconnects before the first of several answers cancels them all."""
    before = rows(server.home).keys()
    for stream in [True, False] * 20:
        with BareClient(server, max_tokens=LONG, n=4, stream=stream) as client:
            client.leave_by_rst()
    server.wait_until(lambda: server.outstanding() == 0)

    left = [row for request_id, row in rows(server.home).items() if request_id not in before]
    assert {"client_disconnect"} >= {row.outcome for row in left}


def test_many_leave_at_once(server):
    """Forty streams cut at forty different chunks are forty rows that the engine's log confirms."""
    before = rows(server.home).keys()
    with ExitStack() as open_clients:
        clients = [
            open_clients.enter_context(BareClient(server, max_tokens=LONG)) for _ in range(40)
        ]
        for number, client in enumerate(clients):
            client.read(1 + number % 20)
            (client.leave_by_rst if number % 2 else client.leave_by_fin)()
    server.wait_until(lambda: server.outstanding() == 0)

    ended = [row for request_id, row in rows(server.home).items() if request_id not in before]
    log = witness_log(server.home)
    assert ["client_disconnect"] * 40 == [row.outcome for row in ended]
    assert [len(log[row.request_id].token_ids) for row in ended] == [
        row.completion_tokens for row in ended
    ]
