"""The account endpoints of the real server, over HTTP."""

from __future__ import annotations

import base64
import json
import time
from contextlib import contextmanager

import httpx
import jwt
import pytest

from stillhouse.catalogue.demo_models import DEMO_MODEL

CHAT = "/v1/openai/chat/completions"
HELLO = {"model": DEMO_MODEL, "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 8}
ACCOUNT_PATHS = [
    ("GET", "/v1/me"),
    ("GET", "/v1/me/rate_limit"),
    ("GET", "/v1/api-tokens"),
    ("POST", "/v1/api-tokens"),
    ("GET", "/v1/api-tokens/1"),
    ("DELETE", "/v1/api-tokens/1"),
    ("GET", "/v1/scoped-jwt"),
    ("POST", "/v1/scoped-jwt"),
    ("POST", "/v1/request-costs"),
    ("GET", "/payment/usage"),
    ("GET", "/payment/usage/tokens"),
    ("GET", "/payment/usage/1"),
]


@contextmanager
def client_with(server, secret):
    headers = {"Authorization": f"Bearer {secret}"}
    with httpx.Client(base_url=server.url, headers=headers, timeout=120) as client:
        yield client


@pytest.fixture(scope="module")
def alice(server):
    """A customer with an account of her own; her key's name is `main`."""
    assert 0 == server.command("accounts", "create", "alice").returncode
    secret = server.command("keys", "create", "main", "--account", "alice").stdout.strip()
    with client_with(server, secret) as client:
        yield client


@pytest.fixture(scope="module")
def bob(server):
    """Another customer."""
    assert 0 == server.command("accounts", "create", "bob").returncode
    secret = server.command("keys", "create", "main", "--account", "bob").stdout.strip()
    with client_with(server, secret) as client:
        yield client


def key_of(client):
    return client.headers["authorization"].removeprefix("Bearer ")


def sign(client, secret=None, **claims):
    """A token signed as DeepInfra's users sign theirs: with the key, and without the server."""
    uid = client.get("/v1/me").json()["uid"]
    kid = f"{uid}:{base64.b64encode(b'main').decode()}"
    payload = {"sub": uid, "exp": int(time.time()) + 3600, **claims}
    return "jwt:" + jwt.encode(payload, secret or key_of(client), "HS256", headers={"kid": kid})


def mint(client, **wishes):
    return client.post("/v1/scoped-jwt", json={"api_key_name": "main", **wishes})


def error_of(response):
    return response.json()["error"]


def test_me(alice):
    """/v1/me returns the account's name and number, and nulls for unknown fields."""
    me = alice.get("/v1/me").json()
    assert ("alice", None, False) == (me["display_name"], me["email"], me["is_admin"])
    assert me["uid"].startswith("sh:")
    assert {"rate_limit": 200, "tpm_rate_limit": None} == alice.get("/v1/me/rate_limit").json()


def test_key_from_its_making_to_its_end(server, alice):
    """A key made over HTTP shows its secret once, works, is listed without it, and ends."""
    made = alice.post("/v1/api-tokens", json={"name": "from HTTP"}).json()
    secret, key_id = made["token"], made["token_id"]
    listed = alice.get("/v1/api-tokens")
    assert secret.startswith("sh_")
    assert secret not in listed.text
    assert {f"{secret[:8]}…"} == {
        key["token"] for key in listed.json() if key["token_id"] == key_id
    }
    assert alice.get(f"/v1/api-tokens/{key_id}").json() in listed.json()
    with client_with(server, secret) as client:
        assert 200 == client.post(CHAT, json=HELLO).status_code
        assert 200 == alice.delete(f"/v1/api-tokens/{key_id}").status_code
        assert 401 == client.post(CHAT, json=HELLO).status_code
    assert 404 == alice.get(f"/v1/api-tokens/{key_id}").status_code
    assert 404 == alice.delete(f"/v1/api-tokens/{key_id}").status_code


def test_key_whose_name_is_taken(alice):
    """A second key of one name is a 409."""
    response = alice.post("/v1/api-tokens", json={"name": "main"})
    assert (409, "name") == (response.status_code, error_of(response)["param"])


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"{}", b'{"name": 5}', b'{"name": ""}', b'{"name": "a\\nb"}', b"[" * 60_000],
)
def test_wrong_body(alice, body):
    """A body without a name that can be given is a 422 in OpenAI's envelope."""
    response = alice.post("/v1/api-tokens", content=body)
    assert (422, "invalid_request_error") == (response.status_code, error_of(response)["type"])


def test_body_that_is_too_long(alice):
    """A body beyond every sensible length is not read."""
    assert 413 == alice.post("/v1/request-costs", content=b" " * 300_000).status_code


@pytest.mark.parametrize("wishes", [{}, {"models": [DEMO_MODEL], "spending_limit": 1}])
def test_minted_token_does_inference(server, alice, wishes):
    """A scoped token can call the models that it names, and its scopes can be read."""
    before_s = int(time.time())
    token = mint(alice, expires_delta=600, **wishes).json()["token"]
    told = alice.get("/v1/scoped-jwt", params={"jwtoken": token}).json()
    assert (wishes.get("models"), wishes.get("spending_limit")) == (
        told["models"],
        told["spending_limit"],
    )
    assert before_s + 600 <= told["expires_at"] <= int(time.time()) + 600
    with client_with(server, token) as client:
        assert 200 == client.post(CHAT, json=HELLO).status_code


def test_token_signed_without_the_server(server, alice):
    """A token signed with the key alone works, and its spend is its key's."""
    before = usage_of(alice)["total_cost_picousd"]
    with client_with(server, sign(alice, model=DEMO_MODEL)) as client:
        usage = client.post(CHAT, json=HELLO).json()["usage"]
    after = usage_of(alice)["total_cost_picousd"]
    assert round(usage["estimated_cost"] * 10**12) == after - before


def test_token_for_another_model(server, alice):
    """A token for other models is a 403 that says so."""
    for token in (mint(alice, models=["a/b"]).json()["token"], sign(alice, models=["a/b"])):
        with client_with(server, token) as client:
            response = client.post(CHAT, json=HELLO)
        assert (403, "permission_denied") == (response.status_code, error_of(response)["code"])


def test_token_spends_its_limit_and_no_more(server, alice):
    """With a limit for one request's highest cost, a token gets one answer and then a 402."""
    with client_with(server, sign(alice, spending_limit=0.00001)) as client:
        statuses = [client.post(CHAT, json=HELLO).status_code for _ in range(8)]
        refused = client.post(CHAT, json=HELLO)
    assert 200 == statuses[0]
    assert sorted(statuses) == statuses
    assert (402, "insufficient_quota") == (refused.status_code, error_of(refused)["code"])
    assert 200 == alice.post(CHAT, json=HELLO).status_code


def forged(client):
    """Tokens that a key's holder has not signed, or not for now."""
    token = sign(client)
    head, _, signature = token.rpartition(".")
    header = jwt.get_unverified_header(token.removeprefix("jwt:"))
    none = jwt.encode({"sub": "sh:3", "exp": 2**32}, None, "none", headers=header | {"alg": "none"})
    header_part, _, _ = token.split(".")
    wider = json.dumps({"sub": "sh:3", "exp": 2**32}).encode()
    return {
        "alg none": f"jwt:{none}",
        "unsigned": f"{head}.",
        "another secret": sign(client, secret="sh_" + "0" * 33),
        "expired": sign(client, exp=int(time.time()) - 1),
        "tampered": f"{header_part}.{base64.urlsafe_b64encode(wider).decode()}.{signature}",
        "no token": "jwt:",
        "too long": sign(client, models=["a" * 5000]),
    }


def test_forged_tokens(server, alice):
    """Every token signed without the key is a 401."""
    tokens = forged(alice)
    statuses = {}
    for kind, token in tokens.items():
        with client_with(server, token) as client:
            statuses[kind] = client.post(CHAT, json=HELLO).status_code
        assert 422 == alice.get("/v1/scoped-jwt", params={"jwtoken": token}).status_code
    assert dict.fromkeys(tokens, 401) == statuses


def test_revoked_key_ends_its_tokens(server, alice):
    """When a key is deleted, the tokens it has signed are refused with it."""
    made = alice.post("/v1/api-tokens", json={"name": "parent"}).json()
    token = mint(alice, api_key_name="parent").json()["token"]
    with client_with(server, token) as client:
        assert 200 == client.post(CHAT, json=HELLO).status_code
        alice.delete(f"/v1/api-tokens/{made['token_id']}")
        assert 401 == client.post(CHAT, json=HELLO).status_code


@pytest.mark.parametrize(
    ("wishes", "status", "param"),
    [
        ({"api_key_name": "none"}, 404, "api_key_name"),
        ({"api_key_name": ""}, 422, "api_key_name"),
        ({"expires_delta": 0}, 422, "expires_delta"),
        ({"expires_delta": 1.5}, 422, "expires_delta"),
        ({"expires_at": 1_000_000_000}, 422, "expires_at"),
        ({"expires_at": 2_000_000_000, "expires_delta": 5}, 422, "expires_at"),
        ({"models": []}, 422, "models"),
        ({"models": "a/b"}, 422, "models"),
        ({"spending_limit": -1}, 422, "spending_limit"),
        ({"spending_limit": 1e-13}, 422, "spending_limit"),
        ({"spending_limit": 1e99}, 422, "spending_limit"),
        ({"spending_limit": True}, 422, "spending_limit"),
        ({"spending_limit": "1"}, 422, "spending_limit"),
    ],
)
def test_tokens_that_cannot_be_minted(alice, wishes, status, param):
    """A token with an invalid field is refused, and the error names the field."""
    response = mint(alice, **wishes)
    assert (status, param) == (response.status_code, error_of(response)["param"])


def test_limited_key_makes_nothing_wider_than_itself(server, alice):
    """A key with a limit signs tokens of its own, and neither makes keys nor uses others'."""
    made = server.command(
        *("keys", "create", "limited", "--account", "alice", "--spending-limit-usd", "0.01")
    )
    with client_with(server, made.stdout.strip()) as client:
        assert 200 == mint(client, api_key_name="limited").status_code
        assert 403 == mint(client, api_key_name="main").status_code
        assert 403 == client.post("/v1/api-tokens", json={"name": "wider"}).status_code
        assert 403 == client.delete("/v1/api-tokens/1").status_code
        assert 200 == client.get("/v1/me").status_code


@pytest.mark.parametrize(("method", "path"), ACCOUNT_PATHS)
def test_account_paths_are_for_keys(server, alice, method, path):
    """Without a key an account's endpoints are 401, and with a scoped token 403."""
    assert 401 == httpx.request(method, server.url + path).status_code
    with client_with(server, sign(alice)) as client:
        assert 403 == client.request(method, path, json={}).status_code


def test_other_methods(alice):
    """A method that a path does not know is a 405 in OpenAI's envelope, with those it knows."""
    refused = alice.put("/v1/api-tokens", json={})
    assert (405, "GET, HEAD, POST") == (refused.status_code, refused.headers["allow"])
    assert "method_not_allowed" == error_of(refused)["code"]
    assert 405 == alice.get(CHAT).status_code
    assert 200 == alice.head("/v1/me").status_code


def test_no_key_reaches_another_account(alice, bob):
    """A key can neither read nor revoke anything of another account, even with its ids."""
    request_id = alice.post(CHAT, json=HELLO).json()["id"]
    ids = [key["token_id"] for key in alice.get("/v1/api-tokens").json()]
    for key_id in ids:
        assert 404 == bob.get(f"/v1/api-tokens/{key_id}").status_code
        assert 404 == bob.delete(f"/v1/api-tokens/{key_id}").status_code
        assert 404 == bob.get(f"/payment/usage/{key_id}").status_code
    asked = {"requestIds": [request_id]}
    assert {"requests": []} == bob.post("/v1/request-costs", json=asked).json()
    assert [] == usage_of(bob)["items"]
    token = mint(alice).json()["token"]
    assert 422 == bob.get("/v1/scoped-jwt", params={"jwtoken": token}).status_code
    for path in ("/admin", "/admin/accounts", "/v1/accounts"):
        assert 404 == bob.get(path).status_code
    assert ids == [key["token_id"] for key in alice.get("/v1/api-tokens").json()]


def usage_of(client, path="/payment/usage", **query):
    return client.get(path, params=query).json()["months"][-1]


def test_request_costs(alice):
    """A request's cost is returned in nano-dollars, and unknown ids are left out."""
    answer = alice.post(CHAT, json=HELLO).json()
    asked = {"requestIds": [answer["id"], "chatcmpl-unknown"]}
    costs = alice.post("/v1/request-costs", json=asked).json()
    nanousd = (round(answer["usage"]["estimated_cost"] * 10**12) + 500) // 1000
    assert {"requests": [{"requestId": answer["id"], "costNanoUsd": nanousd}]} == costs
    too_many = {"requestIds": ["x"] * 1001}
    assert 422 == alice.post("/v1/request-costs", json=too_many).status_code


@pytest.mark.parametrize("path", ["/payment/usage", "/payment/usage/tokens"])
def test_usage_of_a_month(alice, path):
    """A month's items sum to what its requests cost, to the pico-dollar."""
    before = usage_of(alice, path)["total_cost_picousd"]
    usage = alice.post(CHAT, json=HELLO).json()["usage"]
    month = usage_of(alice, path)
    assert before + round(usage["estimated_cost"] * 10**12) == month["total_cost_picousd"]
    assert month["total_cost_picousd"] == sum(item["cost_picousd"] for item in month["items"])
    assert (month["total_cost_picousd"] + 5 * 10**9) // 10**10 == month["total_cost"]
    assert ("NOT_FINAL", time.strftime("%Y.%m", time.gmtime())) == (
        month["invoice_id"],
        month["period"],
    )
    item = month["items"][0]
    assert (DEMO_MODEL, "default", "input_tokens") == (
        item["model"]["model_name"],
        item["model"]["plan_id"],
        item["pricing_type"],
    )
    assert item["cost_picousd"] == item["units"] * round(item["rate"] * 10**10)


def test_usage_of_a_key(alice):
    """A key's usage is filtered by its id."""
    made = alice.post("/v1/api-tokens", json={"name": "metered"}).json()
    path = f"/payment/usage/{made['token_id']}"
    assert 0 == usage_of(alice, path)["total_cost_picousd"]
    headers = {"Authorization": f"Bearer {made['token']}"}
    usage = alice.post(CHAT, json=HELLO, headers=headers).json()["usage"]
    assert round(usage["estimated_cost"] * 10**12) == usage_of(alice, path)["total_cost_picousd"]
    assert 404 == alice.get(f"/payment/usage/{made['token']}").status_code


@pytest.mark.parametrize(
    ("query", "periods"),
    [
        ({"from": "2024.11", "to": "2025.02"}, ["2024.11", "2024.12", "2025.01", "2025.02"]),
        ({"from": "1735689600", "to": "2025.01"}, ["2025.01"]),
    ],
)
def test_span_of_usage(alice, query, periods):
    """A span holds the months of both of its ends and those between; nothing used is EMPTY."""
    months = alice.get("/payment/usage", params=query).json()["months"]
    assert periods == [month["period"] for month in months]
    assert {("EMPTY", 0)} == {(month["invoice_id"], month["total_cost"]) for month in months}


@pytest.mark.parametrize(
    "query",
    [
        {"from": "2025-11"},
        {"from": "2025.13"},
        {"from": "current", "to": "current-1"},
        {"from": "1000.01"},
        {"from": "current-99999"},
        {"from": "9999999999999"},
        {"to": "soon"},
    ],
)
def test_span_that_cannot_be(alice, query):
    """An invalid or too long time range is a 422."""
    assert 422 == alice.get("/payment/usage", params=query).status_code


def test_earlier_months_by_name(alice):
    """`current-N`, with or without brackets, counts back from this month."""
    for first in ("current-2", "current(-2)"):
        months = alice.get("/payment/usage", params={"from": first, "to": "current"}).json()
        assert 3 == len(months["months"])
