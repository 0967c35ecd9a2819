"""The engine dies, hangs, will not stop or cannot count: the client pays for no fault of ours."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack

import pytest

from tests.faults.bare_client import BareClient
from tests.faults.fault_server import (
    CHAT,
    HELLO,
    cost_picousd,
    last_row,
    rows,
    run_fault_server,
    witness_log,
)

CRASH_TOKENS = range(21)
HANG_TOKEN = 3
STUBBORN_SEED, HANG_SEED, MISCOUNT_SEED, POISON_SEED = 100, 200, 300, 400
MISCOUNTS = [
    (kind, at_token) for kind in ("negative_usage", "huge_usage", "no_usage") for at_token in (0, 2)
]


def fault(kind, *, at_token, seed):
    return f'{{kind = "{kind}", at_token = {at_token}, seed = {seed}}}'


FAULTS = [
    *(fault("crash", at_token=token, seed=token) for token in CRASH_TOKENS),
    fault("ignore_cancel", at_token=0, seed=STUBBORN_SEED),
    fault("crash", at_token=1, seed=POISON_SEED),
    fault("hang", at_token=HANG_TOKEN, seed=HANG_SEED),
    *(
        fault(kind, at_token=at_token, seed=MISCOUNT_SEED + number)
        for number, (kind, at_token) in enumerate(MISCOUNTS)
    ),
]
ENGINE = f"""
token_interval_s = 0.005
faults = [{", ".join(FAULTS)}]
[engine.supervision]
first_restart_delay_s = 0
stable_after_s = 0
ping_interval_s = 0.5
hang_timeout_s = 2
cancel_timeout_s = 0.5
"""
LONG = 1500  # tokens; takes 8 s
SLOTS, NUM_WAITING, SHORT = 4, 50, 3
FEW_SLOTS = f"slots = {SLOTS}\ntoken_interval_s = 0.01\n"


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with run_fault_server(tmp_path_factory.mktemp("engine-fails") / "home", ENGINE) as server:
        yield server


@pytest.fixture
def small_server(tmp_path):
    """Its engine works on four sequences at once."""
    with run_fault_server(tmp_path / "home", FEW_SLOTS) as server:
        yield server


@pytest.fixture
def server(running):
    """The server when its engine, which the test before may have killed, serves again."""
    running.wait_until(running.is_ready)
    return running


def row_and_witnessed(server):
    server.wait_until(lambda: server.outstanding() == 0)
    row = last_row(server.home)
    return row, witness_log(server.home)[row.request_id].token_ids


def test_a_crash_before_the_first_token_has_a_status(server):
    """Nothing was sent yet, so the answer is a 502; nothing is charged."""
    with server.client() as client:
        answer = client.post(CHAT, json=HELLO | {"seed": 0, "stream": True, "max_tokens": LONG})
    row, witnessed = row_and_witnessed(server)

    assert (502, "engine_crashed") == (answer.status_code, answer.json()["error"]["code"])
    assert ("VOIDED", "engine_error", 0, 0) == (
        row.state,
        row.outcome,
        row.completion_tokens,
        row.cost_picousd,
    )
    assert 1 == len(witnessed)


@pytest.mark.parametrize("token", CRASH_TOKENS[1:])
def test_a_crash_at_any_token_charges_nothing(server, token):
    """The stream shows the tokens and ends in an error instead of [DONE]; the row is free."""
    with BareClient(server, seed=token, max_tokens=LONG) as client:
        _role, *deltas, error = client.events()
    row, witnessed = row_and_witnessed(server)

    assert (token, "engine_crashed") == (len(deltas), error["error"]["code"])
    assert ("VOIDED", "engine_error", token, 0) == (
        row.state,
        row.outcome,
        row.completion_tokens,
        row.cost_picousd,
    )
    assert token + 1 == len(witnessed)


def test_a_crash_takes_its_neighbours_along_unpaid(server):
    """All that were in flight get an error and pay nothing; the next request is served."""
    before = rows(server.home).keys()
    with ExitStack() as clients:
        neighbours = [
            clients.enter_context(BareClient(server, seed=900 + n, max_tokens=LONG))
            for n in range(3)
        ]
        for neighbour in neighbours:
            neighbour.read(2)
        culprit = clients.enter_context(BareClient(server, seed=5, max_tokens=LONG))
        ends = [list(client.events())[-1] for client in (culprit, *neighbours)]
    server.wait_until(server.is_ready)
    with BareClient(server, seed=950, max_tokens=2) as client:
        assert None is list(client.events())[-1]
    server.wait_until(lambda: server.outstanding() == 0)

    new = [row for request_id, row in rows(server.home).items() if request_id not in before]
    assert ["engine_crashed"] * 4 == [end["error"]["code"] for end in ends]
    assert [("VOIDED", 0)] * 4 == [(row.state, row.cost_picousd) for row in new[:-1]]
    assert ("SETTLED", "length") == (new[-1].state, new[-1].outcome)


def test_what_waits_when_the_engine_is_killed_is_answered_after_the_restart(small_server):
    """Of 54 requests the four that ran fail, unpaid; the other fifty are answered whole."""
    with ExitStack() as clients:
        running = [
            clients.enter_context(BareClient(small_server, seed=n, max_tokens=LONG))
            for n in range(SLOTS)
        ]
        for client in running:
            client.read(3)
        waiting = [
            clients.enter_context(BareClient(small_server, max_tokens=SHORT, stream=False))
            for n in range(NUM_WAITING)
        ]
        small_server.wait_until(lambda: small_server.outstanding() == SLOTS + NUM_WAITING)
        os.kill(small_server.alarms("engine_ready")[-1]["pid"], signal.SIGKILL)
        ends = [list(client.events())[-1] for client in running]
        answers = [(next(client.lines()), client.body()) for client in waiting]
    small_server.wait_until(lambda: small_server.outstanding() == 0)
    new = list(rows(small_server.home).values())

    assert ["engine_crashed"] * SLOTS == [end["error"]["code"] for end in ends]
    assert {b"HTTP/1.1 200 OK\r\n"} == {status for status, _ in answers}
    assert {SHORT} == {body["usage"]["completion_tokens"] for _, body in answers}
    assert [("VOIDED", 0)] * SLOTS == [(row.state, row.cost_picousd) for row in new[:SLOTS]]
    assert {"SETTLED"} == {row.state for row in new[SLOTS:]}


def test_a_request_that_crashed_the_engine_twice_is_refused(server):
    """The third time it is a 422 that says so, and the engine that serves others lives on."""
    body = HELLO | {"seed": POISON_SEED, "max_tokens": LONG}
    with server.client() as client:
        crashed = [client.post(CHAT, json=body).status_code for _ in range(2)]
        refused = client.post(CHAT, json=body)
        other = client.post(CHAT, json=HELLO | {"seed": POISON_SEED + 1, "max_tokens": 2})

    assert [502, 502] == crashed
    assert (422, "request_quarantined") == (refused.status_code, refused.json()["error"]["code"])
    assert "crashed 2 times" in refused.json()["error"]["message"]
    assert 200 == other.status_code


def test_a_hang_is_found_and_ended(server):
    """A hanging worker is killed; the client gets an error and pays nothing."""
    with BareClient(server, seed=HANG_SEED, max_tokens=LONG) as client:
        _role, *deltas, error = client.events()
    row, witnessed = row_and_witnessed(server)

    assert (HANG_TOKEN, "engine_crashed") == (len(deltas), error["error"]["code"])
    assert ("VOIDED", HANG_TOKEN, 0) == (row.state, row.completion_tokens, row.cost_picousd)
    assert HANG_TOKEN + 1 == len(witnessed)
    assert 1 == len(server.alarms("engine_worker_hangs"))


def test_an_engine_that_will_not_stop_is_left_alone(server):
    """Charged is what had come when the client left; the rest is our loss, and an alarm."""
    with BareClient(server, seed=STUBBORN_SEED, max_tokens=LONG) as client:
        client.read(5)
        client.leave_by_rst()
        row, witnessed = row_and_witnessed(server)
    (alarm,) = server.alarms("engine_ignores_cancel")

    assert ("SETTLED", "client_disconnect", "gateway_count") == (
        row.state,
        row.outcome,
        row.usage_source,
    )
    assert row.request_id == alarm["request_id"]
    assert 4 <= row.completion_tokens < row.completion_tokens + alarm["tokens_not_charged"]
    assert row.completion_tokens + alarm["tokens_not_charged"] <= len(witnessed) < LONG
    assert cost_picousd(row.prompt_tokens, row.completion_tokens) == row.cost_picousd


@pytest.mark.parametrize("number", range(len(MISCOUNTS)), ids=map(str, MISCOUNTS))
def test_an_engine_that_cannot_count_is_not_believed(server, number):
    """The gateway's own count is charged and shown, marked as such, and one alarm is logged."""
    with BareClient(server, seed=MISCOUNT_SEED + number, max_tokens=6) as client:
        *_, finish, done = client.events()
    row, witnessed = row_and_witnessed(server)
    alarms = [
        alarm
        for alarm in server.alarms("engine_miscounts")
        if alarm["request_id"] == row.request_id
    ]

    assert 6 == len(witnessed) == row.completion_tokens == finish["usage"]["completion_tokens"]
    assert ("SETTLED", "length", "gateway_count") == (row.state, row.outcome, row.usage_source)
    assert cost_picousd(row.prompt_tokens, 6) == row.cost_picousd
    assert row.cost_picousd == round(finish["usage"]["estimated_cost"] * 10**12)
    assert (1, None) == (len(alarms), done)
