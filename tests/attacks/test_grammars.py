"""Schemas that are slow, or never compile, or take too much work late: beside another account."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from tests.attacks.accounts import Account, open_account
from tests.faults.bare_client import BareClient
from tests.faults.fault_server import CHAT, HELLO, WAIT_S, FaultServer, rows, run_fault_server

TEXT = {"type": "string", "maxLength": 60}


def members(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": [*properties],
        "additionalProperties": False,
    }


def slow(number: int = 0) -> dict[str, Any]:
    """A good schema that is compiled in some tenths of a second, one of many."""
    texts = [{"type": "string", "maxLength": n + number} for n in range(1, 201)]
    lists = [{"type": "array", "items": text, "maxItems": 900} for text in texts]
    return members(**{f"p{n}": items for n, items in enumerate(lists)})


#: Each pattern is small; that they hold at once takes minutes to find out.
NEVER = {"type": "string", "allOf": [{"pattern": f"(a|b)*a(a|b){{{i}}}"} for i in range(20)]}
LATE = [
    members(answer=TEXT, z={"type": "string", "pattern": "^((((a{1000}){1000}){1000}){1000})$"}),
    members(answer=TEXT, z={"type": "string", "pattern": "^([a-z]{1,10} ?){1,100}$"}),
    {"type": "object", "properties": {f"p{n}": TEXT for n in range(850)}},
]


def form(schema: dict[str, Any]) -> dict[str, Any]:
    json_schema = {"name": "answer", "schema": schema}
    return {"response_format": {"type": "json_schema", "json_schema": json_schema}}


@pytest.fixture(scope="module")
def server(tmp_path_factory, preloaded):
    """The embedded engine: the fake one takes no grammar."""
    home = tmp_path_factory.mktemp("attacked") / "home"
    config = "threads = 1\n[engine.supervision]\ncancel_timeout_s = 600\n"
    with run_fault_server(home, config, kind="openvino", preloaded=preloaded) as running:
        yield running


def num_compiled(server: FaultServer, where: str) -> int:
    """Return the number of compiled grammars, from the server's metrics."""
    for line in httpx.get(server.url + "/metrics").text.splitlines():
        if line.startswith("stillhouse_grammar_compile_seconds_count") and f'"{where}"' in line:
            return round(float(line.split()[-1]))
    return 0


def assert_engine_never_ended(server: FaultServer) -> None:
    assert 1 == len(server.alarms("engine_ready"))
    assert [] == server.alarms("engine_worker_died")


async def ask(client: httpx.AsyncClient, account: Account, **fields: Any) -> httpx.Response:
    body = HELLO | {"max_tokens": 1, "temperature": 0} | fields
    return await client.post(CHAT, json=body, headers=account.headers)


def client_of(server: FaultServer) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=None)
    return httpx.AsyncClient(base_url=server.url, timeout=WAIT_S, limits=limits)


async def test_a_slow_schema_is_compiled_once_however_often_it_is_sent(server, attacker):
    """150 requests at once get their answers, from the engine that was there before."""
    engine_before, check_before = num_compiled(server, "engine"), num_compiled(server, "check")
    async with client_of(server) as client:
        answers = await asyncio.gather(*(ask(client, attacker, **form(slow())) for _ in range(150)))
    assert {200} == {answer.status_code for answer in answers}
    assert 1 == num_compiled(server, "engine") - engine_before
    assert 1 == num_compiled(server, "check") - check_before
    assert_engine_never_ended(server)


async def test_slow_schemas_hold_up_neither_cancels_nor_another_account(server, victim):
    """While one account's are compiled another's is answered, and who leaves is settled."""
    attacker = await asyncio.to_thread(open_account, server, "attacker with many schemas")
    async with client_of(server) as client:
        attacks = [
            asyncio.create_task(ask(client, attacker, **form(slow(number))))
            for number in range(1, 17)
        ]
        await asyncio.wait(attacks, return_when=asyncio.FIRST_COMPLETED)
        stream = await asyncio.to_thread(BareClient, server, victim.headers, max_tokens=900)
        await asyncio.to_thread(stream.read, 2)
        stream.close()
        fresh = await ask(client, victim.account, **form(members(b=TEXT)))
        # A cancel that the engine did not answer would be waited for ten minutes.
        await asyncio.to_thread(server.wait_until, lambda: has_left(server))
        assert 200 == fresh.status_code
        assert any(not attack.done() for attack in attacks)
        assert {200} == {attack.status_code for attack in await asyncio.gather(*attacks)}
    assert_engine_never_ended(server)


def has_left(server: FaultServer) -> bool:
    """Return whether a client disconnected in mid-answer, and was charged what was generated."""
    return any(row.outcome == "client_disconnect" for row in rows(server.home).values())


async def test_a_schema_that_never_compiles_costs_one_try(server, attacker, victim):
    """Repeated by two accounts, the schema delays no other request, and each gets the reason."""
    accomplice = await asyncio.to_thread(open_account, server, "accomplice")
    before = num_compiled(server, "check")
    async with client_of(server) as client:
        attacks = [
            asyncio.create_task(ask(client, account, **form(NEVER)))
            for account in (attacker, accomplice)
            for _ in range(20)
        ]
        refusals = await asyncio.gather(*attacks)
        again = [await ask(client, account, **form(NEVER)) for account in (attacker, accomplice)]
        fresh = await ask(client, victim.account, **form(members(c=TEXT)))
    assert {422} == {refusal.status_code for refusal in [*refusals, *again]}
    assert 200 == fresh.status_code
    assert num_compiled(server, "check") - before <= 3  # one for each account, and the victim's
    assert "to compile" in refusals[0].json()["error"]["message"]


@pytest.mark.parametrize("schema", LATE)
async def test_work_that_comes_late_is_refused_before_the_first_token(server, attacker, schema):
    """Every endpoint refuses it, streamed or not, before anything is generated."""
    json_schema = {"type": "json_schema", "name": "answer", "schema": schema}
    messages = HELLO["messages"]
    requests = {
        CHAT: HELLO | form(schema),
        "/v1/responses": {"model": HELLO["model"], "input": "Hi", "text": {"format": json_schema}},
        "/v1/messages": {
            "model": HELLO["model"],
            "max_tokens": 100,
            "messages": messages,
            "output_config": {"format": {"type": "json_schema", "schema": schema}},
        },
        f"/v1/inference/{HELLO['model']}": {"input": "Hi", **form(schema)},
    }
    before = len(rows(server.home))
    async with client_of(server) as client:
        for path, body in requests.items():
            for stream in (False, True):
                response = await client.post(
                    path, json=body | {"stream": stream}, headers=attacker.headers
                )
                assert response.status_code in {400, 422}, (path, response.text)
    assert before == len(rows(server.home))
