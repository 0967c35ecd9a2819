"""The header Idempotency-Key: however often a request is sent, it runs and costs once."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress

import httpx
import openai
import pytest

from stillhouse.app.services import open_services
from stillhouse.catalogue.demo_models import DEMO_MODEL
from stillhouse.testing.failpoints import EXIT_CODE
from tests.faults.bare_client import LEAVE, BareClient
from tests.faults.fault_server import (
    CHAT,
    HELLO,
    FaultServer,
    assert_ledger_is_right,
    last_row,
    rows,
    run_fault_server,
)
from tests.faults.preloaded import Preloaded

ENGINE = "first_token_s = 0.02\ntoken_interval_s = 0.005\n"
BODY = HELLO | {"max_tokens": 20}
START_COMMITS = 2  # the prices, the sweep
HOLD, SETTLE = START_COMMITS + 1, START_COMMITS + 2
POINTS = [f"{side}-commit:{number}" for number in (HOLD, SETTLE) for side in ("before", "after")]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with run_fault_server(tmp_path_factory.mktemp("idempotency") / "home", ENGINE) as running:
        yield running


@pytest.fixture
def client(server):
    with server.client() as client:
        yield client


@pytest.fixture
def name(request) -> dict[str, str]:
    """A header that no other test uses."""
    return {"Idempotency-Key": request.node.name}


def new_rows(server, before):
    return [row for request_id, row in rows(server.home).items() if request_id not in before]


def events_in(response):
    lines = [line for line in response.text.split("\n\n") if line]
    assert "data: [DONE]" == lines[-1]
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


def text_in(events):
    deltas = [event["choices"][0]["delta"] for event in events]
    return [
        "".join(delta.get(part, "") for delta in deltas)
        for part in ("content", "reasoning_content")
    ]


async def test_fifty_at_once(server, name):
    """One of fifty concurrent requests is generated and charged; the others get it or a 409."""
    before = rows(server.home).keys()
    async with httpx.AsyncClient(base_url=server.url, headers=server.headers, timeout=30) as many:
        answers = await asyncio.gather(
            *(many.post(CHAT, json=BODY, headers=name) for _ in range(50))
        )
    served = [answer.text for answer in answers if answer.status_code == 200]
    refused = [answer for answer in answers if answer.status_code != 200]

    assert 1 == len(set(served))
    assert {(409, "idempotency_in_flight", "1")} >= {
        (answer.status_code, answer.json()["error"]["code"], answer.headers["retry-after"])
        for answer in refused
    }
    assert ["SETTLED"] == [row.state for row in new_rows(server, before)]


def test_whole_answer(server, client, name):
    """The second answer is the first, to the byte, and says that it is a repetition."""
    before = rows(server.home).keys()
    first = client.post(CHAT, json=BODY, headers=name)
    again = client.post(CHAT, json=dict(reversed(BODY.items())), headers=name)

    assert (200, first.content) == (again.status_code, again.content)
    assert (None, "true") == tuple(
        answer.headers.get("idempotent-replayed") for answer in (first, again)
    )
    assert 1 == len(new_rows(server, before))


def test_stream(server, client, name):
    """A repeated stream has the first one's id, time, text, usage and cost."""
    before = rows(server.home).keys()
    body = BODY | {"stream": True}
    first, again = [events_in(client.post(CHAT, json=body, headers=name)) for _ in range(2)]

    assert text_in(first) == text_in(again)
    assert first[0] == again[0]
    assert first[-1] == again[-1]
    assert 1 == len(new_rows(server, before))


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"temperature": 1}, CHAT),
        ({"stream": True}, CHAT),
        ({}, "/v1/chat/completions"),
        ({}, CHAT + "?version=1"),
    ],
)
def test_another_request_under_the_same_key(client, name, change, path):
    """A key stands for one body, path and query; anything else under it is a 422."""
    assert 200 == client.post(CHAT, json=BODY, headers=name).status_code
    refused = client.post(path, json=BODY | change, headers=name)

    assert 422 == refused.status_code
    error = refused.json()["error"]
    assert ("idempotency_key_reused", "Idempotency-Key") == (error["code"], error["param"])


def test_another_accounts_key(server, client, name):
    """The same key of another account is another request."""

    async def make_key():
        async with open_services(server.home) as services:
            account = await services.accounts.create_account("other")
            return (await services.accounts.keys.mint(account.id, "key")).secret

    before = rows(server.home).keys()
    other = {"Authorization": f"Bearer {asyncio.run(make_key())}"}
    assert 200 == client.post(CHAT, json=BODY, headers=name).status_code
    answer = client.post(CHAT, json=BODY | {"max_tokens": 3}, headers=name | other)

    assert 200 == answer.status_code
    assert 2 == len(new_rows(server, before))


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\there", "Zoë"])
def test_keys_that_are_none(client, key):
    """A key has 1 to 255 characters that can be printed."""
    refused = client.post(CHAT, json=BODY, headers={"Idempotency-Key": key.encode()})

    assert 422 == refused.status_code
    assert "Idempotency-Key" == refused.json()["error"]["param"]


@pytest.mark.parametrize("leave", LEAVE)
def test_leaving_in_mid_stream(server, client, name, leave):
    """A client that disconnects from a named request gets the whole answer when it repeats it."""
    before = rows(server.home).keys()
    with BareClient(server, name, max_tokens=20) as bare:
        bare.read(3)
        LEAVE[leave](bare)
    server.wait_until(lambda: server.outstanding() == 0)
    again = events_in(client.post(CHAT, json=BODY | {"stream": True}, headers=name))

    assert [("length", 20)] == [
        (row.outcome, row.completion_tokens) for row in new_rows(server, before)
    ]
    assert 20 == again[-1]["usage"]["completion_tokens"]


def test_the_official_client_repeats_itself_into_the_answer(server, client, name):
    """OpenAI's client gets a 409 while the first request runs, waits, and gets its answer."""
    before = rows(server.home).keys()
    ask = {"model": DEMO_MODEL, "messages": HELLO["messages"], "max_tokens": 60}
    with (
        openai.OpenAI(base_url=f"{server.url}/v1/openai", api_key="x", max_retries=3) as official,
        BareClient(server, name, **ask) as bare,
    ):
        bare.read(2)
        official.api_key = server.headers["Authorization"].removeprefix("Bearer ")
        chunks = list(official.chat.completions.create(**ask, stream=True, extra_headers=name))

    assert "length" == chunks[-1].choices[0].finish_reason
    assert 1 == len(new_rows(server, before))


@pytest.fixture(scope="module")
def lives(tmp_path_factory):
    """A home that has been served before, and what starts a server on it."""
    home = tmp_path_factory.mktemp("idempotency-lives") / "home"
    with Preloaded() as preloaded:
        first = FaultServer(home, preloaded=preloaded)
        try:
            assert first.comes_up()
        finally:
            first.kill()
        yield lambda failpoint="": FaultServer(home, failpoint=failpoint, preloaded=preloaded)


@pytest.mark.parametrize("point", POINTS)
def test_a_crash_leaves_neither_charge_without_answer_nor_answer_without_charge(lives, name, point):
    """After any crash, the repetition gets an answer, and both have one charge."""
    dead = lives(point)
    before = rows(dead.home).keys()
    try:
        assert dead.comes_up()
        with dead.client() as client, suppress(httpx.HTTPError):
            client.post(CHAT, json=BODY, headers=name)
        assert EXIT_CODE == dead.process.wait()
    finally:
        dead.kill()
    second = lives()
    try:
        assert second.comes_up()
        with second.client() as client:
            answer = client.post(CHAT, json=BODY, headers=name)
            again = client.post(CHAT, json=BODY, headers=name)
    finally:
        second.kill()
    charged = [row for row in new_rows(second, before) if row.state == "SETTLED"]

    assert (200, answer.content) == (answer.status_code, again.content)
    assert (point == f"after-commit:{SETTLE}") == ("idempotent-replayed" in answer.headers)
    assert [answer.json()["id"]] == [row.request_id for row in charged]
    assert last_row(second.home).request_id == charged[0].request_id
    assert_ledger_is_right(second.home)
