"""The responses beyond a limit, and while the ledger cannot be written."""

from __future__ import annotations

import asyncio
import json
from contextlib import ExitStack, contextmanager
from itertools import count

import httpx
import pytest

from stillhouse.app.services import DATABASE_FILE, open_services
from stillhouse.catalogue.demo_models import DEMO_MODEL
from tests.faults.bare_client import BareClient
from tests.faults.fault_server import (
    CHAT,
    HELLO,
    INPUT_PICOUSD,
    OUTPUT_PICOUSD,
    rows,
    run_fault_server,
)
from tests.ledger_storage import locked

MAX_OUTSTANDING, PER_MINUTE = 3, 20
CONFIG = f"""
token_interval_s = 0.005
[limits]
max_outstanding = {MAX_OUTSTANDING}
requests_per_minute = {PER_MINUTE}
[server]
ledger_patience_s = 0.3
"""
LONG, SHORT = 1500, 3  # tokens; the first takes 8 s, and no client here waits for its end
_names = count(1)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with run_fault_server(tmp_path_factory.mktemp("limits") / "home", CONFIG) as running:
        yield running


@contextmanager
def customer(server, *, limit_picousd=None, allowed_models=None):
    """A client with an account and a key of its own."""

    async def make():
        async with open_services(server.home) as services:
            account = await services.accounts.create_account(f"limits-{next(_names)}")
            minted = await services.accounts.keys.mint(
                account.id, "key", allowed_models=allowed_models
            )
            if limit_picousd is not None:
                await services.ledger.limits.set_key_limit(minted.key.id, limit_picousd)
            return minted.secret

    headers = {"Authorization": f"Bearer {asyncio.run(make())}"}
    with httpx.Client(base_url=server.url, headers=headers, timeout=30) as client:
        yield client


def ask(client, **fields):
    return client.post(CHAT, json=HELLO | {"max_tokens": SHORT} | fields)


def error_of(response):
    return response.status_code, response.json()["error"]["code"]


def test_too_many_in_flight(server):
    """With all its slots taken an account gets a 429; a freed slot serves the next request."""
    with customer(server) as client:
        body = HELLO | {"max_tokens": LONG, "stream": True}
        with ExitStack() as streams:
            opened = [
                streams.enter_context(client.stream("POST", CHAT, json=body)).iter_lines()
                for _ in range(MAX_OUTSTANDING)
            ]
            first_lines = [next(lines) for lines in opened]
            refused = ask(client)
        server.wait_until(lambda: server.outstanding() == 0)
        served = ask(client)

    assert all(first_lines)
    assert (429, "rate_limit_exceeded") == error_of(refused)
    assert refused.json()["error"]["message"].startswith("Rate limited")
    assert "1" == refused.headers["retry-after"]
    assert 200 == served.status_code


def test_too_many_in_a_minute(server):
    """A minute's worth may come at once; the next is refused, with the seconds to wait."""
    with customer(server) as client:
        answers = [ask(client) for _ in range(PER_MINUTE + 2)]

    # One request may refill while they run, at one in three seconds.
    assert [200] * PER_MINUTE == [answer.status_code for answer in answers[:PER_MINUTE]]
    assert (429, "rate_limit_exceeded") == error_of(answers[-1])
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 3


def test_not_enough_money(server):
    """A limit that does not cover the highest possible cost is a 402, with DeepInfra's words."""
    with customer(server, limit_picousd=SHORT * OUTPUT_PICOUSD) as client:
        refused = ask(client)

    assert (402, "insufficient_quota") == error_of(refused)
    message = refused.json()["error"]["message"]
    assert message.startswith("You need positive balance to do inference. Please add balance")
    assert "$0.0000018 in total does not cover" in message


def test_another_model_than_the_key_is_for(server):
    """A key for some models is refused for others, and the error lists its models."""
    with customer(server, allowed_models=frozenset({"deepseek-ai/DeepSeek-V3.1"})) as client:
        refused = ask(client)

    assert (403, "permission_denied") == error_of(refused)
    assert "deepseek-ai/DeepSeek-V3.1" in refused.json()["error"]["message"]


@pytest.mark.parametrize(
    ("asked", "echo", "tenths"),
    [
        ("priority", "priority", 15),
        ("flex", "flex", 8),
        ("default", "default", 10),
        ("auto", "default", 10),
    ],
)
def test_service_tiers(server, asked, echo, tenths):
    """The tier that was used is echoed, whole and streamed, and is what is charged."""
    with customer(server) as client:
        whole = ask(client, service_tier=asked).json()
        stream = ask(client, service_tier=asked, stream=True).text
    chunks = [json.loads(line[6:]) for line in stream.splitlines() if line.startswith("data: {")]

    assert {echo} == {part["service_tier"] for part in (whole, *chunks)}
    usage = whole["usage"]
    due = INPUT_PICOUSD * usage["prompt_tokens"] + OUTPUT_PICOUSD * usage["completion_tokens"]
    assert due * tenths // 10 / 10**12 == usage["estimated_cost"]
    assert usage["estimated_cost"] == chunks[-1]["usage"]["estimated_cost"]


def test_no_tier_asked_none_told(server):
    """Without the field, answers have the shape of the API page, and a wrong tier is named."""
    with customer(server) as client:
        assert "service_tier" not in ask(client).json()
        refused = ask(client, service_tier="scale")

    assert (422, "service_tier") == (refused.status_code, refused.json()["error"]["param"])


def test_ledger_down(server):
    """New requests are refused within a second, the running one ends and is settled once, later."""
    with (
        customer(server, limit_picousd=10**12) as client,
        BareClient(server, max_tokens=40) as stream,
        BareClient(server, max_tokens=40, stream=False) as whole,
    ):
        stream.read(2)
        server.wait_until(lambda: server.outstanding() == 2)
        with locked(server.home / DATABASE_FILE):
            refused = [ask(client) for _ in range(3)]
            probes = [httpx.get(server.url + path).status_code for path in ("/livez", "/readyz")]
            *_, finish, done = stream.events()
            answer = whole.body()
            assert ["HELD", "HELD"] == [row.state for row in rows(server.home).values()][-2:]
        server.wait_until(lambda: server.outstanding() == 0)
        served = ask(client)

    assert {(503, "store_unavailable")} == {error_of(answer) for answer in refused}
    assert {"1"} == {answer.headers["retry-after"] for answer in refused}
    assert min(answer.elapsed.total_seconds() for answer in refused) < 1
    assert [200, 503] == probes
    assert (None, None) == (done, finish["usage"]["estimated_cost"])
    assert (
        "length" == finish["choices"][0]["finish_reason"] == answer["choices"][0]["finish_reason"]
    )
    assert (40, None) == tuple(
        answer["usage"][name] for name in ("completion_tokens", "estimated_cost")
    )
    assert (200, DEMO_MODEL) == (served.status_code, served.json()["model"])
