"""Schemas that take long to check, again and again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import httpx

from tests.attacks.accounts import open_account
from tests.faults.fault_server import CHAT, HELLO, WAIT_S

#: Twenty automata that are intersected.
EVIL_SCHEMA = {
    "type": "string",
    "allOf": [{"pattern": f"(a|b)*a(a|b){{{length}}}"} for length in range(20)],
}
#: Each alone would take two seconds of one of two processes.
NUM_AT_ONCE = 40
MANY = httpx.Limits(max_connections=None)


def ask(client, headers, schema):
    schema_format = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    body = HELLO | {"max_tokens": 1, "response_format": schema_format}
    return client.post(CHAT, json=body, headers=headers)


def test_bad_schemas_hold_up_no_good_ones(demo):
    """Two accounts that repeat a schema without end are told so; others' schemas are checked."""
    victim, attacker, accomplice = (
        open_account(demo, name) for name in ("victim", "attacker", "accomplice")
    )
    with (
        httpx.Client(base_url=demo.url, timeout=WAIT_S, limits=MANY) as client,
        ThreadPoolExecutor(NUM_AT_ONCE) as threads,
    ):
        bad = [
            threads.submit(ask, client, who.headers, EVIL_SCHEMA)
            for who in (attacker, accomplice)
            for _ in range(NUM_AT_ONCE // 2)
        ]
        good = [
            ask(
                client,
                victim.headers,
                {"type": "object", "properties": {f"p{number}": {"type": "string"}}},
            )
            for number in range(3)
        ]
        refused = [answer.result() for answer in bad]

    assert [200] * 3 == [answer.status_code for answer in good], good[0].text
    assert [422] * NUM_AT_ONCE == [answer.status_code for answer in refused]
    assert all("takes longer than" in answer.json()["error"]["message"] for answer in refused)
