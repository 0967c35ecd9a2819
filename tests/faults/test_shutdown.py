"""A service manager ends the server while it works: every row is settled first."""

from __future__ import annotations

import signal
from contextlib import ExitStack

import httpx

from tests.faults.bare_client import BareClient
from tests.faults.fault_server import (
    CHAT,
    HELLO,
    WAIT_S,
    last_row,
    rows,
    run_fault_server,
    witness_log,
)

LONG = 1500  # tokens; takes 8 s
ENGINE = "token_interval_s = 0.005\n[server]\nshutdown_grace_s = 1\n"
PATIENT = "token_interval_s = 0.005\n[server]\nshutdown_grace_s = 60\n"
LATE = PATIENT + "drain_delay_s = 60\n"


def tell_to_end(server):
    """Send SIGTERM, and return when the server says that it is not ready any more."""
    server.process.send_signal(signal.SIGTERM)
    server.wait_until(lambda: not server.is_ready())


def test_sigterm_finishes_what_it_can_and_settles_the_rest(tmp_path):
    """Within the grace a stream ends as always; what is cut off then is charged as drained."""
    home = tmp_path / "home"
    with run_fault_server(home, ENGINE) as server, ExitStack() as clients:
        short = clients.enter_context(BareClient(server, max_tokens=30))
        long = clients.enter_context(BareClient(server, max_tokens=LONG))
        whole = clients.enter_context(BareClient(server, max_tokens=LONG, stream=False))
        short.read(2)
        long.read(2)
        server.wait_until(lambda: len(rows(home)) == 3)
        server.stop()
        short_events = list(short.events())
        long_events = list(long.events())
        answer = whole.body()

    log = witness_log(home)
    by_outcome = {row.outcome: row for row in rows(home).values()}
    assert {"length", "drained"} == by_outcome.keys()
    assert (None, 30) == (short_events[-1], by_outcome["length"].completion_tokens)
    assert None not in long_events
    assert "engine_unavailable" == long_events[-1]["error"]["code"]
    for row in rows(home).values():
        assert ("SETTLED", "engine") == (row.state, row.usage_source)
        assert len(log[row.request_id].token_ids) == row.completion_tokens < LONG
    # What a whole answer came to is charged, and so it is shown.
    assert "engine_unavailable" == answer["error"]["code"]
    shown = [event["error"]["usage"] for event in (long_events[-1], answer)]
    assert sorted(
        (usage["completion_tokens"], round(usage["estimated_cost"] * 10**12)) for usage in shown
    ) == sorted(
        (row.completion_tokens, row.cost_picousd)
        for row in rows(home).values()
        if row.outcome == "drained"
    )


def test_what_is_new_is_refused_while_the_rest_ends(tmp_path):
    """Not by a reset: with a 503 that says when to come back, on a connection that then ends."""
    with (
        run_fault_server(tmp_path / "home", PATIENT) as server,
        BareClient(server, max_tokens=LONG) as running,
        server.client() as kept,
    ):
        kept.get("/livez")  # on a connection that stays open
        running.read(2)
        tell_to_end(server)
        answers = [kept.post(CHAT, json=HELLO)]
        answers.append(httpx.post(server.url + CHAT, json=HELLO, headers=server.headers))
        live = httpx.get(server.url + "/livez")
        *_, finish, done = running.events()
        assert 0 == server.process.wait(WAIT_S)

    for answer in answers:
        assert (503, "1") == (answer.status_code, answer.headers["retry-after"])
        assert "close" == answer.headers["connection"]
        assert "shutting down" in answer.json()["error"]["message"]
    assert 200 == live.status_code
    assert (LONG, None) == (finish["usage"]["completion_tokens"], done)


def test_load_balancers_have_time_to_look_elsewhere(tmp_path):
    """Until the delay is over it is not ready, and answers all the same."""
    with run_fault_server(tmp_path / "home", LATE) as server:
        tell_to_end(server)
        with BareClient(server, max_tokens=3) as client:
            *_, finish, done = client.events()
        server.process.send_signal(signal.SIGTERM)
        assert 0 == server.process.wait(WAIT_S)

    assert (3, None) == (finish["usage"]["completion_tokens"], done)


def test_a_second_signal_ends_it_now(tmp_path):
    """Without waiting for the grace's end: an error event, and a row that is settled."""
    home = tmp_path / "home"
    with run_fault_server(home, PATIENT) as server, BareClient(server, max_tokens=LONG) as client:
        client.read(2)
        tell_to_end(server)
        server.process.send_signal(signal.SIGTERM)
        *_, error = client.events()
        assert 0 == server.process.wait(WAIT_S)

    row = last_row(home)
    assert "engine_unavailable" == error["error"]["code"]
    assert ("SETTLED", "drained") == (row.state, row.outcome)
    assert len(witness_log(home)[row.request_id].token_ids) == row.completion_tokens < LONG
