"""The billing commands beside a running server, whose requests they report."""

from __future__ import annotations

import json
import sqlite3
import time

import httpx
import pytest

from stillhouse.catalogue.demo_models import DEMO_MODEL
from tests.e2e.running_server import run_server

CHAT = "/v1/openai/chat/completions"
HELLO = {"model": DEMO_MODEL, "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 8}


def ask(server, key, **changes):
    headers = {"Authorization": f"Bearer {key}"}
    return httpx.post(server.url + CHAT, json=HELLO | changes, headers=headers, timeout=120)


def new_key(server, *options):
    done = server.command("keys", "create", *options)
    assert 0 == done.returncode, done.stderr
    return done.stdout.strip()


def this_month():
    return time.strftime("%Y-%m", time.gmtime())


@pytest.fixture(scope="module")
def prepaid(server):
    """The key of an account that can spend what it is topped up by."""
    assert 0 == server.command("accounts", "create", "prepaid", "--prepaid").returncode
    return new_key(server, "main", "--account", "prepaid")


def test_prepaid_account_is_served_once_it_has_paid(server, prepaid):
    """Without a balance there is DeepInfra's 402; a top-up counts with the next request."""
    refused = ask(server, prepaid)
    assert 402 == refused.status_code
    assert "You need positive balance" in refused.json()["error"]["message"]
    done = server.command("accounts", "top-up", "prepaid", "2.5", "--note", "invoice 7")
    assert (0, "$2.5") == (done.returncode, done.stderr.split()[-2])
    usage = ask(server, prepaid).json()["usage"]
    accounts = json.loads(server.command("accounts", "list", "--json").stdout)
    account = next(row for row in accounts if row["name"] == "prepaid")
    assert (25 * 10**11, round(usage["estimated_cost"] * 10**12), 0) == (
        account["limit_picousd"],
        account["spent_picousd"],
        account["held_picousd"],
    )


def test_limited_key_until_its_limit_is_raised(server):
    """A key stops at its limit, says how high that is, and goes on when it is raised."""
    key = new_key(server, "capped", "--spending-limit-usd", "0.000000001", "--monthly")
    refused = ask(server, key)
    assert 402 == refused.status_code
    assert "$0.000000001 this month" in refused.json()["error"]["message"]
    assert 0 == server.command("keys", "limit", "capped", "1").returncode
    assert 200 == ask(server, key).status_code


def test_key_for_one_model_and_for_a_minute(server):
    """A key for another model is a 403; when its time is over, which is set by hand, a 401."""
    key = new_key(server, "elsewhere", "--models", "a/b", "--expires", "1m")
    assert 403 == ask(server, key).status_code
    connection = sqlite3.connect(server.home / "stillhouse.db", timeout=10)
    with connection:
        connection.execute("UPDATE api_key SET expires_at_ms = 1 WHERE name = 'elsewhere'")
    connection.close()
    deadline_s = time.monotonic() + 30
    while ask(server, key).status_code != 401:
        assert time.monotonic() < deadline_s


def test_statement_of_this_month(server):
    """The invoice equals the usage and costs that clients were shown, on each service tier."""
    assert 0 == server.command("accounts", "create", "invoiced").returncode
    key = new_key(server, "main", "--account", "invoiced")
    usages = [
        ask(server, key, service_tier=tier).json()["usage"] for tier in ("default", "priority")
    ]
    done = server.command("statement", this_month(), "--account", "invoiced", "--json")
    invoice = json.loads(done.stdout)
    told = [
        (tier, usage["completion_tokens"], round(usage["estimated_cost"] * 10**12))
        for tier, usage in zip(("default", "priority"), usages, strict=True)
    ]
    assert sorted(told) == sorted(
        (line["service_tier"], line["output_tokens"], line["cost_picousd"])
        for line in invoice["lines"]
    )
    assert invoice["cost_picousd"] == sum(cost for _, _, cost in told)


def test_ledger_verifies_beside_the_running_server(server):
    """An audit of a ledger that is in use and was just rebuilt finds nothing."""
    for command in ("rebuild", "verify"):
        done = server.command("ledger", command)
        assert (0, "") == (done.returncode, done.stdout), done.stderr


def test_error_is_one_line(server):
    """A command that cannot be done says why in one line, and exits 1."""
    done = server.command("keys", "create", "x", "--account", "nobody")
    assert (1, "") == (done.returncode, done.stdout)
    assert 1 == len(done.stderr.strip().splitlines())
    assert "No account is named 'nobody'" in done.stderr


FAKE = f"""
[models."{DEMO_MODEL}"]
[engine]
kind = "fake"
[engine.fake]
witness_log = "witness.jsonl"
"""


def test_ledger_agrees_with_the_engines_witness(tmp_path):
    """The charged tokens equal the engine's own token log."""
    config, home = tmp_path / "stillhouse.toml", tmp_path / "state"
    config.write_text(FAKE)
    with run_server(home, "--config", str(config)) as server:
        for max_tokens in (1, 5, 9):
            assert 200 == ask(server, server.key, max_tokens=max_tokens).status_code
        witness = home / "witness.jsonl"
        done = server.command("ledger", "verify", "--witness", str(witness))
        assert (0, "") == (done.returncode, done.stdout), done.stderr
