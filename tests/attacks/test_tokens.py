"""Forged, excessively created and revoked keys and tokens; endpoints closed to customers."""

from __future__ import annotations

import base64
import sqlite3
from contextlib import closing
from threading import Thread

import httpx
import jwt

from tests.attacks.accounts import Account, bearer, open_account, with_services
from tests.attacks.memory import at_most_mib_more
from tests.faults.bare_client import BareClient
from tests.faults.fault_server import CHAT, HELLO, WAIT_S, FaultServer, rows

CONFIG = """
token_interval_s = 0.01
[server]
revocation_check_s = 0.1
[accounts]
auth_failures_per_minute = 20
max_keys = 30
keys_minted_per_minute = 10
"""


def sign(account: Account, *, secret: str | None = None, number: int = 0, **claims: object) -> str:
    """A token of the account's first key; forged where *secret* is another one."""
    uid = f"sh:{account.id}"
    kid = f"{uid}:{base64.b64encode(b'first-key').decode()}"
    payload = {"sub": uid, "exp": 2**33, "jti": str(number), **claims}
    return "jwt:" + jwt.encode(payload, secret or account.secret, "HS256", headers={"kid": kid})


def num_rows(server: FaultServer, table: str) -> int:
    with closing(sqlite3.connect(f"file:{server.home}/stillhouse.db?mode=ro", uri=True)) as ledger:
        (number,) = ledger.execute(f"SELECT count(*) FROM {table}").fetchone()
    assert isinstance(number, int)
    return number


def test_forged_tokens_lock_nobody_out(server, victim):
    """Hundreds of forged tokens of the victim's key leave its streams, key and new tokens alone."""
    with httpx.Client(base_url=server.url, timeout=WAIT_S) as client:
        with victim.streaming(), at_most_mib_more(server, 20):
            forged = [
                sign(victim.account, secret="x" * 36, number=number, models=["m" * 60] * 17)
                for number in range(300)
            ]
            told = [client.post(CHAT, json=HELLO, headers=bearer(t)).status_code for t in forged]
        new = sign(victim.account, number=1)
        answer = client.post(CHAT, json=HELLO | {"max_tokens": 1}, headers=bearer(new))
    assert [401] * 20 == told[:20]
    assert {429} == set(told[25:])  # the bucket refills by one every three seconds
    assert 200 == answer.status_code
    assert victim.is_answered()


def test_own_tokens_are_no_rows_until_they_are_spent(server, attacker):
    """A thousand self-signed tokens on paths that there are not, or that refuse, write nothing."""
    before = num_rows(server, "scope")
    with httpx.Client(base_url=server.url, timeout=WAIT_S) as client:

        def ask(number, path=CHAT, **fields):
            token = sign(attacker, number=number, spending_limit=1)
            body = HELLO | {"max_tokens": 1, **fields}
            return client.post(path, json=body, headers=bearer(token)).status_code

        statuses = {ask(number, "/v1/none") for number in range(990)}
        statuses |= {ask(number, model="none") for number in range(990, 1000)}
        assert {404} == statuses
        assert before == num_rows(server, "scope")
        assert [200, 200] == [ask(7), ask(7)]
    assert before + 1 == num_rows(server, "scope")


def test_token_that_covers_nothing_is_no_row(server, attacker):
    """A token whose limit refuses the request leaves no trace either."""
    before = num_rows(server, "scope"), num_rows(server, "request")
    token = sign(attacker, number=2000, spending_limit=0)
    response = httpx.post(server.url + CHAT, json=HELLO, headers=bearer(token), timeout=WAIT_S)
    assert 402 == response.status_code
    assert before == (num_rows(server, "scope"), num_rows(server, "request"))


def test_minting_is_bounded(server):
    """Creating keys is rate-limited per account, revoking or not; other accounts continue."""
    minter = open_account(server, "minter")
    with httpx.Client(base_url=server.url, headers=minter.headers, timeout=WAIT_S) as client:
        made = [client.post("/v1/api-tokens", json={"name": f"key {n}"}) for n in range(15)]
        assert [200] * 9 + [429] * 6 == [response.status_code for response in made]
        assert 0 < int(made[-1].headers["Retry-After"]) <= 60
        for response in made[:9]:
            client.delete(f"/v1/api-tokens/{response.json()['token_id']}").raise_for_status()
        again = client.post("/v1/api-tokens", json={"name": "again"})
    assert 429 == again.status_code
    other = open_account(server, "other")
    client_of_other = httpx.post(
        server.url + "/v1/api-tokens", json={"name": "one"}, headers=other.headers, timeout=WAIT_S
    )
    assert 200 == client_of_other.status_code


def test_account_has_a_bounded_number_of_keys(server):
    """Beyond the bound a key is refused with what to do, whoever asks for it."""
    collector = open_account(server, "collector")

    async def fill(services):
        for number in range(29):
            await services.accounts.keys.mint(collector.id, f"key {number}")

    with_services(server, fill)
    response = httpx.post(
        server.url + "/v1/api-tokens",
        json={"name": "one too many"},
        headers=collector.headers,
        timeout=WAIT_S,
    )
    assert (409, "too_many_api_keys") == (
        response.status_code,
        response.json()["error"]["code"],
    )


def test_revoked_key_ends_its_streams(server, victim):
    """Revoked by a command, a key's and its token's streams and a whole answer end, charged."""
    leaver = open_account(server, "leaver")
    token = bearer(sign(leaver))
    whole: list[httpx.Response] = []

    def ask_whole() -> None:
        body = HELLO | {"max_tokens": 3000}
        url = server.url + CHAT
        whole.append(httpx.post(url, json=body, headers=leaver.headers, timeout=WAIT_S))

    asking = Thread(target=ask_whole)
    with (
        victim.streaming(max_tokens=300),
        BareClient(server, leaver.headers, max_tokens=3000) as of_key,
        BareClient(server, token, max_tokens=3000) as of_token,
    ):
        for stream in (of_key, of_token):
            stream.read(3)
        asking.start()
        server.wait_until(lambda: 4 <= server.outstanding())
        with_services(
            server,
            lambda services: services.accounts.keys.revoke_named("first-key", account_id=leaver.id),
        )
        ends = [list(stream.events())[-1] for stream in (of_key, of_token)]
        asking.join()

    assert ["invalid_api_key"] * 2 == [end["error"]["code"] for end in ends]
    assert (401, "invalid_api_key") == (whole[0].status_code, whole[0].json()["error"]["code"])
    charged = [row for row in rows(server.home).values() if row.outcome == "revoked"]
    assert {"SETTLED"} == {row.state for row in charged}
    told = sorted(body["error"]["usage"]["completion_tokens"] for body in (*ends, whole[0].json()))
    assert told == sorted(row.completion_tokens for row in charged)
    assert 0 < told[0]
    assert told[-1] < 3000


def test_metrics_off_loopback_are_the_operators(start_server):
    """No customer's key or token, nor none, opens /metrics of a server that others can reach."""
    server = start_server('[server]\nhost = "0.0.0.0"\n')
    customer = open_account(server, "customer")
    admin_key = (server.home / "admin-key").read_text().strip()

    def status(path, headers):
        return httpx.get(server.url + path, headers=headers, timeout=WAIT_S).status_code

    assert [401, 401, 403, 403, 200] == [
        status("/metrics", headers)
        for headers in (
            {},
            bearer(admin_key[:-1]),
            customer.headers,
            bearer(sign(customer)),
            bearer(admin_key),
        )
    ]
    assert [401, 200] == [status("/v1/me", h) for h in (bearer(admin_key), customer.headers)]
