"""Prefix-cache entries of one account are never reused by another, except public prefixes."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from itertools import count

import httpx
import pytest

from stillhouse.app.services import open_services
from stillhouse.catalogue.demo_models import DEMO_MODEL
from tests.e2e.running_server import run_server

CHAT = "/v1/openai/chat/completions"
PUBLIC = "You are the assistant of a house that is still. " * 20
INPUT_PICOUSD, CACHED_PICOUSD, OUTPUT_PICOUSD = 200_000, 50_000, 600_000
CONFIG = f"""
[models."{DEMO_MODEL}"]
usd_per_million_tokens = {{ input = "0.20", cached_input = "0.05", output = "0.60" }}
[[public_prefixes]]
model = "{DEMO_MODEL}"
system_file = "public.txt"
"""
_names = count(1)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tenants")
    (folder / "public.txt").write_text(PUBLIC)
    config = folder / "stillhouse.toml"
    config.write_text(CONFIG)
    with run_server(folder / "home", "--config", str(config)) as running:
        yield running


@contextmanager
def account(server, num_keys=1):
    """An account's keys, a client for each."""

    async def make():
        async with open_services(server.home) as services:
            made = await services.accounts.create_account(f"tenant-{next(_names)}")
            keys = [
                await services.accounts.keys.mint(made.id, f"key {number}")
                for number in range(num_keys)
            ]
            return [key.secret for key in keys]

    clients = [
        httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {secret}"}, timeout=60)
        for secret in asyncio.run(make())
    ]
    try:
        yield clients
    finally:
        for client in clients:
            client.close()


def ask(client, question, *, system=None, headers=None, **fields):
    messages = [{"role": "user", "content": question}]
    if system is not None:
        messages.insert(0, {"role": "system", "content": system})
    body = {"model": DEMO_MODEL, "messages": messages, "max_tokens": 2} | fields
    response = client.post(CHAT, json=body, headers=headers)
    assert 200 == response.status_code, response.text
    return response.json()["usage"]


def cached(usage) -> int:
    return int(usage["prompt_tokens_details"]["cached_tokens"])


def secret_prompt():
    """Return a new long prompt."""
    number = next(_names)
    return " ".join(f"{number} secret words of {number + each}" for each in range(60))


def test_an_accounts_prompts_are_its_own(server):
    """All its keys find them again, and another account does not, to the token."""
    prompt = secret_prompt()
    with account(server, num_keys=2) as (first, second), account(server) as (other,):
        new = cached(ask(first, prompt))
        again, by_other_key = cached(ask(first, prompt)), cached(ask(second, prompt))
        others = [cached(ask(other, prompt)) for _ in range(2)]

    assert 0 == new
    assert again == by_other_key > 100
    assert [0, again] == others  # the second time it finds what it has left itself


@pytest.mark.parametrize(
    ("fields", "headers"),
    [
        ({"cache_salt": "{salt}"}, {}),
        ({"prompt_cache_key": "shared"}, {}),
        ({"user": "shared"}, {}),
        ({"num_public_tokens": 10_000}, {}),
        ({"public": True, "priority": -1}, {}),
        ({"extra_body": {"cache_salt": ""}}, {}),
        ({}, {"X-Cache-Salt": "shared", "OpenAI-Organization": "shared", "X-Session-Id": "a"}),
    ],
)
def test_nothing_that_a_client_sends_opens_anothers_cache(server, fields, headers):
    """Two accounts that send the same to the byte, any name for a cache in it, share nothing."""
    prompt = secret_prompt()
    with account(server) as (owner,), account(server) as (other,):
        ask(owner, prompt, headers=headers, **fields)
        own = cached(ask(owner, prompt, headers=headers, **fields))
        others = cached(ask(other, prompt, headers=headers, **fields))

    assert (True, 0) == (own > 100, others)


def test_a_scoped_token_is_its_accounts(server):
    """A scoped token reuses its account's entries, and other accounts do not reuse its own."""
    prompt = secret_prompt()
    with account(server) as (owner,), account(server) as (other,):
        signed = owner.post("/v1/scoped-jwt", json={"api_key_name": "key 0", "expires_delta": 600})
        assert 200 == signed.status_code, signed.text
        token = {"Authorization": f"Bearer {signed.json()['token']}"}
        ask(owner, prompt)
        by_token = cached(ask(owner, prompt, headers=token))
        others = cached(ask(other, prompt))

    assert (True, 0) == (by_token > 100, others)


def test_cached_tokens_cost_less(server):
    """Cached tokens are charged at their own price, to the pico-dollar."""
    prompt = secret_prompt()
    with account(server) as (client,):
        usages = [ask(client, prompt) for _ in range(2)]

    for usage in usages:
        due = (
            INPUT_PICOUSD * (usage["prompt_tokens"] - cached(usage))
            + CACHED_PICOUSD * cached(usage)
            + OUTPUT_PICOUSD * usage["completion_tokens"]
        )
        assert due / 10**12 == usage["estimated_cost"]
    assert usages[1]["estimated_cost"] < usages[0]["estimated_cost"]


def test_a_public_prefix_is_everybodys_and_what_follows_is_not(server):
    """Another account finds the declared system message cached, and of the question nothing."""
    prompt = secret_prompt()
    with account(server) as (first,), account(server) as (other,), account(server) as (third,):
        ask(first, "Hello", system=PUBLIC)
        public = cached(ask(other, prompt, system=PUBLIC))
        same_question = cached(ask(third, prompt, system=PUBLIC))
        own = cached(ask(third, prompt, system=PUBLIC))
        undeclared = cached(ask(third, prompt, system=PUBLIC + "."))

    assert own > same_question + 100
    assert public == same_question > 100
    assert 0 == undeclared


def test_a_public_prefix_of_no_model(tmp_path):
    """An unknown model name is reported at the start, with the names that are served."""
    config = tmp_path / "stillhouse.toml"
    config.write_text(CONFIG.replace('\nmodel = "', '\nmodel = "other/'))
    (tmp_path / "public.txt").write_text(PUBLIC)
    with (
        pytest.raises(AssertionError, match="public_prefixes are declared for 'other/"),
        run_server(tmp_path / "home", "--config", str(config)),
    ):
        pass
