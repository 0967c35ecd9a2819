"""Large bodies delay only their own account, and refused ones count against its limits."""

from __future__ import annotations

import gzip
import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import pytest

from stillhouse.catalogue.demo_models import DEMO_MODEL
from tests.attacks.accounts import open_account
from tests.attacks.memory import at_most_mib_more
from tests.attacks.raw_connection import RawConnection
from tests.faults.fault_server import CHAT, HELLO, WAIT_S

CONFIG = "token_interval_s = 0.01\n"
COUNT = "/v1/messages/count_tokens"
MIB = 1 << 20
NUM_AT_ONCE = 32
UNTIMED = {"inference_status": None}  # a replay takes no time
#: The bytes an account may have in flight, and those of two bodies on their way to a process.
CEILING_MIB = 100


def huge(num_bytes=7 * MIB, **fields):
    message = {"role": "user", "content": "lamb " * (num_bytes // 5)}
    return json.dumps(HELLO | {"messages": [message]} | fields).encode()


def post(server, account, body, *, path=CHAT):
    return httpx.post(server.url + path, content=body, headers=account.headers, timeout=2 * WAIT_S)


def assert_refused(response, status):
    assert status == response.status_code, response.text
    assert response.json()["error"]["message"]
    assert ("retry-after" in response.headers) == (status == 429)


@pytest.mark.parametrize("path", [CHAT, COUNT])
def test_a_stream_runs_through_large_bodies(server, attacker, victim, path):
    """Thirty-two at once: each is refused for what it is, and the gateway holds a few at a time."""
    body = huge()
    with (
        victim.streaming(),
        at_most_mib_more(server, CEILING_MIB),
        ThreadPoolExecutor(NUM_AT_ONCE) as clients,
    ):
        sent = [clients.submit(post, server, attacker, body, path=path) for _ in range(NUM_AT_ONCE)]
        statuses = {response.result().status_code for response in sent}

    assert statuses <= {400, 429}
    assert_refused(post(server, attacker, body, path=path), 400)
    assert victim.is_answered()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, HELLO | {"max_tokens": 3}),
        ("/v1/completions", {"model": DEMO_MODEL, "prompt": "Once", "max_tokens": 3}),
        (f"/v1/inference/{DEMO_MODEL}", {"input": "Once", "max_new_tokens": 3}),
        ("/v1/messages", HELLO | {"max_tokens": 3}),
        ("/v1/responses", {"model": DEMO_MODEL, "input": "Once", "max_output_tokens": 3}),
    ],
)
def test_a_large_body_is_answered_as_a_small_one(server, victim, path, body):
    """Read there or here it is the same request: under one name, the same answer, charged once."""
    small = json.dumps(body).encode()
    headers = victim.headers | {"Idempotency-Key": path}
    url = server.url + path
    first = httpx.post(url, content=small, headers=headers, timeout=WAIT_S)
    again = httpx.post(url, content=small + b" " * 100_000, headers=headers, timeout=WAIT_S)
    packed = httpx.post(
        url,
        content=gzip.compress(small + b" " * 100_000),
        headers=headers | {"Content-Encoding": "gzip"},
        timeout=WAIT_S,
    )

    assert 200 == first.status_code, first.text
    assert "idempotent-replayed" not in first.headers
    for repeated in (again, packed):
        assert "true" == repeated.headers["idempotent-replayed"]
        assert first.json() | UNTIMED == repeated.json() | UNTIMED


def test_refused_bodies_use_up_what_an_account_may_bring(start_server):
    """Every byte read counts against the account; beyond it, large bodies are refused unread."""
    server = start_server(
        general="[bodies]\nmib_per_minute = 8\nburst_mib = 16\nmax_wait_s = 0.1\n"
    )
    attacker, other = open_account(server, "attacker"), open_account(server, "other")
    for _ in range(2):
        assert_refused(post(server, attacker, huge()), 400)

    for path in (CHAT, COUNT):
        assert_refused(post(server, attacker, huge(), path=path), 429)
    assert_refused(post(server, other, huge()), 400)
    small = post(server, attacker, json.dumps(HELLO | {"max_tokens": 1}).encode())
    assert 200 == small.status_code


def test_bodies_that_never_end_hold_only_their_own_account(start_server):
    """Its other large bodies wait, and are refused in the end; small ones and others' are not."""
    server = start_server(
        general="[bodies]\nmax_mib_in_flight_per_account = 16\nmax_wait_s = 0.1\n"
    )
    attacker, other = open_account(server, "attacker"), open_account(server, "other")
    head = (
        f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: {8 * MIB}\r\n"
        f"Authorization: Bearer {attacker.secret}\r\n\r\n{{"
    ).encode()
    with ExitStack() as connections:
        for _ in range(2):
            connections.enter_context(RawConnection(server)).send(head)
        server.wait_until(lambda: 429 == post(server, attacker, huge(100_000)).status_code)
        small = post(server, attacker, json.dumps(HELLO | {"max_tokens": 1}).encode())
        assert 200 == small.status_code
        assert_refused(post(server, other, huge()), 400)
    server.wait_until(lambda: 400 == post(server, attacker, huge(100_000)).status_code)


def test_counting_tokens_has_limits_of_its_own(start_server):
    """Token counts have a rate limit per account, which does not affect completions."""
    server = start_server(general="[token_counts]\nrequests_per_minute = 3\n")
    attacker, other = open_account(server, "attacker"), open_account(server, "other")
    body = json.dumps(HELLO).encode()
    for _ in range(3):
        assert 200 == post(server, attacker, body, path=COUNT).status_code

    for path in (COUNT, "/v1/responses/input_tokens"):
        refused = post(server, attacker, body, path=path)
        assert_refused(refused, 429)
        assert "3 requests per minute to count tokens" in refused.json()["error"]["message"]
    assert 200 == post(server, attacker, json.dumps(HELLO | {"max_tokens": 1}).encode()).status_code
    assert 200 == post(server, other, body, path=COUNT).status_code
