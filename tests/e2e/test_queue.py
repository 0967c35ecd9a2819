"""Queued requests over a socket, with an engine that runs one at a time."""

from __future__ import annotations

import asyncio
import re
from contextlib import ExitStack, contextmanager
from itertools import count

import httpx
import pytest

from stillhouse.app.services import open_services
from stillhouse.billing.outcome import Outcome
from tests.faults.bare_client import LEAVE, BareClient
from tests.faults.fault_server import CHAT, HELLO, last_row, rows, run_fault_server, witness_log

MAX_OUTSTANDING, LAST_PART = 20, 2
KEY_PART = 2  # of the 18 that an account may have, so many are for other keys of its own
ENGINE = "slots = 1\ntoken_interval_s = 0.005\n"
LONG, SHORT = 3900, 3  # tokens; the first takes 20 s, and no client here waits for its end
BUSY = {
    "message": "Model busy, retry later",
    "type": "invalid_request_error",
    "param": None,
    "code": "engine_overloaded",
}
_names = count(1)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server with long waits in the queue and frequent keep-alive comments."""
    home = tmp_path_factory.mktemp("queue") / "home"
    config = ENGINE + "[server]\nkeep_alive_s = 0.05\n"
    with run_fault_server(
        home, config, general=f"[queue]\nmax_outstanding = {MAX_OUTSTANDING}"
    ) as running:
        yield running


@pytest.fixture(scope="module")
def impatient_server(tmp_path_factory):
    """A server on which only the flex tier may wait."""
    home = tmp_path_factory.mktemp("impatient") / "home"
    with run_fault_server(home, ENGINE + "[queue]\nmax_wait_s = 0\n") as running:
        yield running


@contextmanager
def busy(server):
    """The engine's only slot is taken, until the block ends."""
    with BareClient(server, max_tokens=LONG) as client:
        client.read(2)
        yield client
    server.wait_until(lambda: server.outstanding() == 0)


def num_waiting(server) -> int:
    text = httpx.get(server.url + "/metrics").text
    return sum(
        int(float(number))
        for number in re.findall(r"^stillhouse_waiting_requests\{.*\} (\S+)$", text, re.MULTILINE)
    )


def wait(server, stack, num_requests=1, headers=None, **fields):
    """Return a number of further clients, queued one after the other."""
    clients = []
    for _ in range(num_requests):
        before = num_waiting(server)
        clients.append(stack.enter_context(BareClient(server, headers, max_tokens=SHORT, **fields)))
        server.wait_until(lambda number=before + 1: num_waiting(server) == number)
    return clients


def another_account(server) -> dict[str, str]:
    async def make():
        async with open_services(server.home) as opened:
            account = await opened.accounts.create_account(f"queue-{next(_names)}")
            return (await opened.accounts.keys.mint(account.id, "key")).secret

    return {"Authorization": f"Bearer {asyncio.run(make())}"}


def another_key(server) -> dict[str, str]:
    """Return another key of the server's first account."""
    with server.client() as client:
        made = client.post("/v1/api-tokens", json={"name": f"queue-{next(_names)}"})
    return {"Authorization": f"Bearer {made.json()['token']}"}


def id_of(client) -> str:
    """Return the request's id from a stream's first event, which is the ledger's."""
    (event,) = client.read(1)
    return str(event["id"])


def test_a_full_queue(server):
    """One key leaves slots to its account's others, an account to others; then none is left."""
    other_key = another_account(server)
    sibling = another_key(server)
    with busy(server), ExitStack() as stack, server.client() as client:
        wait(server, stack, MAX_OUTSTANDING - 1 - LAST_PART - KEY_PART)
        too_many = client.post(CHAT, json=HELLO)
        wait(server, stack, KEY_PART, headers=sibling)
        num_rows = len(rows(server.home))
        too_many_of_account = client.post(CHAT, json=HELLO, headers=sibling)
        wait(server, stack, LAST_PART, headers=other_key)
        refused = client.post(CHAT, json=HELLO, headers=other_key)
        assert num_rows + LAST_PART == len(rows(server.home))

    for response in (too_many, too_many_of_account, refused):
        assert (429, BUSY) == (response.status_code, response.json()["error"])
        assert 1 <= int(response.headers["retry-after"]) <= 60


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("tier", ["priority", "default"])
def test_fail_fast(server, tier, stream):
    """A request that must not wait is refused if it would have to, also with priority."""
    body = HELLO | {"fail_fast": True, "stream": stream, "service_tier": tier}
    with busy(server), server.client() as client:
        refused = client.post(CHAT, json=body)
    with server.client() as client:
        served = client.post(CHAT, json=body | {"max_tokens": SHORT})

    assert (429, BUSY) == (refused.status_code, refused.json()["error"])
    assert 1 <= int(refused.headers["retry-after"])
    assert 200 == served.status_code


@pytest.mark.parametrize("stream", [True, False])
def test_a_slot_that_does_not_come_free(impatient_server, stream):
    """The request is refused with a status of its own, stream or not, and pays nothing."""
    body = HELLO | {"stream": stream}
    with busy(impatient_server), impatient_server.client() as client:
        refused = client.post(CHAT, json=body)

    row = last_row(impatient_server.home)
    assert (429, BUSY) == (refused.status_code, refused.json()["error"])
    assert 1 <= int(refused.headers["retry-after"])
    assert ("VOIDED", Outcome.DEADLINE, 0) == (row.state, row.outcome, row.cost_picousd)


def test_flex_waits_where_default_may_not(impatient_server):
    """The flex tier has a maximum wait of its own."""
    with ExitStack() as stack:
        with busy(impatient_server):
            (flex,) = wait(impatient_server, stack, service_tier="flex")
        assert flex.read(SHORT + 3)[-1] is None


def test_tiers_go_in_their_order(server):
    """Flex came first and goes last; priority came last and goes first."""
    with ExitStack() as stack:
        with busy(server):
            waiting = {
                tier: wait(server, stack, service_tier=tier)[0]
                for tier in ("flex", "default", "priority")
            }
        ids = {tier: id_of(client) for tier, client in waiting.items()}
        server.wait_until(lambda: server.outstanding() == 0)

    order = list(witness_log(server.home))
    assert ["priority", "default", "flex"] == sorted(ids, key=lambda tier: order.index(ids[tier]))


@pytest.mark.parametrize("leave", LEAVE)
@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_while_it_waits(server, leave, stream):
    """Its request leaves the queue at once, was never at the engine, and costs nothing."""
    with busy(server), ExitStack() as stack:
        (client,) = wait(server, stack, stream=stream)
        LEAVE[leave](client)
        server.wait_until(lambda: num_waiting(server) == 0)
        server.wait_until(lambda: last_row(server.home).state != "HELD")
        row = last_row(server.home)

    assert ("VOIDED", "client_disconnect", 0, 0) == (
        row.state,
        row.outcome,
        row.completion_tokens,
        row.cost_picousd,
    )
    assert row.request_id not in witness_log(server.home)


def test_a_stream_that_waits_is_kept_alive(server):
    """Comments are sent while the request is queued, and then the usual answer."""
    with ExitStack() as stack:
        with busy(server):
            (client,) = wait(server, stack)
            lines = client.lines()
            assert any(line.startswith(b": keep-alive") for line in lines)
        assert b"data: [DONE]\n" in list(lines)


def test_a_light_key_is_not_kept_waiting_by_a_heavy_one(server):
    """Fifteen of one key came before it; a request of another account goes after one of them."""
    light_key = another_account(server)
    with ExitStack() as stack:
        with busy(server):
            heavy = wait(server, stack, 15)
            (light,) = wait(server, stack, headers=light_key)
        light_id = id_of(light)
        heavy_ids = [id_of(client) for client in heavy]
        server.wait_until(lambda: server.outstanding() == 0)

    order = list(witness_log(server.home))
    assert [] == [each for each in heavy_ids if order.index(each) < order.index(light_id)][1:]
