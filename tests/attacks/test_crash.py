"""A request crashes the engine while others wait in the queue."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import httpx

from tests.attacks.accounts import bearer, mint_keys, open_account
from tests.faults.bare_client import BareClient
from tests.faults.fault_server import CHAT, HELLO, WAIT_S, rows

CRASH_SEED = 7
#: Two answers at a time. The one that crashes does so after half a second: others wait by then.
CONFIG = f"""
slots = 2
token_interval_s = 0.05
faults = [{{ kind = "crash", at_token = 10, seed = {CRASH_SEED} }}]
[engine.supervision]
first_restart_delay_s = 0
stable_after_s = 0
"""
NUM_WAITING = 20


def ask(client, headers, **fields):
    return client.post(CHAT, json=HELLO | {"temperature": 0} | fields, headers=headers)


def test_what_waits_outlives_the_engine(server, attacker, victim):
    """Requests that were queued when the engine died are answered after its restart."""
    with (
        BareClient(server, attacker.headers, max_tokens=50, seed=CRASH_SEED) as crash,
        BareClient(server, attacker.headers, max_tokens=50, seed=1) as beside,
        httpx.Client(base_url=server.url, timeout=WAIT_S) as client,
        ThreadPoolExecutor(NUM_WAITING) as threads,
    ):
        crash.read(2)
        asked = [
            threads.submit(ask, client, victim.headers, max_tokens=2) for _ in range(NUM_WAITING)
        ]
        ends = [list(stream.events())[-1] for stream in (crash, beside)]
        statuses = [answer.result().status_code for answer in asked]

    assert ["engine_crashed"] * 2 == [end["error"]["code"] for end in ends]
    assert [200] * NUM_WAITING == statuses
    assert {("VOIDED", 0), ("SETTLED", True)} == {
        (row.state, row.cost_picousd and row.cost_picousd > 0) for row in rows(server.home).values()
    }


def test_what_crashed_two_engines_crashes_no_third(start_server):
    """The same request is refused then, whichever of the account's keys it comes with."""
    server = start_server(CONFIG)
    attacker, other = open_account(server, "attacker"), open_account(server, "other")
    keys = [attacker.headers, *map(bearer, mint_keys(server, attacker, 3))]
    answers = []
    with httpx.Client(base_url=server.url, timeout=WAIT_S) as client:
        for headers in keys:
            answers.append(ask(client, headers, max_tokens=50, seed=CRASH_SEED))
            server.wait_until(server.is_ready)
        innocent = [ask(client, who.headers, max_tokens=2) for who in (attacker, other)]

    assert [502, 502, 422, 422] == [answer.status_code for answer in answers]
    assert "request_quarantined" == answers[-1].json()["error"]["code"]
    assert [200, 200] == [answer.status_code for answer in innocent]
    assert 2 == len(server.alarms("engine_worker_died"))
