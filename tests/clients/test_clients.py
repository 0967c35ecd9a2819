"""Third-party clients run their READMEs' examples against the running server."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing

import pytest

from tests.clients.client_runs import (
    CLIENTS,
    INSTALLED,
    NODE,
    Run,
    calls_outside,
    committed_table,
    plain_environment,
    run_client,
    table_of,
)

NOT_INSTALLED = "other people's clients are not installed, as `make test` does"
EVERYWHERE = {"whole", "stream", "wrong key", "unknown model"}
WITHOUT_STREAM = {"deepinfra"}

RunClient = Callable[[str], Run]


@pytest.fixture(scope="module")
def run_of(server, tmp_path_factory) -> RunClient:
    """Runs a client with a key of its own, once for all tests."""
    runs: dict[str, Run] = {}
    begun: set[str] = set()

    def run(name: str) -> Run:
        if name not in runs:
            assert name not in begun, f"{name} failed, as its own test shows"
            client = CLIENTS[name]
            if not client.is_installed:
                pytest.skip(NOT_INSTALLED)
            begun.add(name)
            with server.client() as http:
                key = http.post("/v1/api-tokens", json={"name": name}).json()["token"]
            home = tmp_path_factory.mktemp("home")
            runs[name] = run_client(client, url=server.url, key=key, home=home)
        return runs[name]

    return run


@pytest.mark.parametrize("name", CLIENTS)
def test_client(server, run_of, name):
    """A client works, calls no other machine, and is charged for its answers alone."""
    run = run_of(name)

    expected = EVERYWHERE - {"stream"} if run.client in WITHOUT_STREAM else EVERYWHERE
    assert set() == expected - set(run.tried)
    assert [] == run.calls_outside
    rows = rows_of_key(server.home, name)
    assert len(run.answers) == len(rows)
    assert [as_in_ledger(a, row) for a, row in zip(run.answers, rows, strict=True)] == rows


def rows_of_key(home, name):
    """Return tokens and cost of a key's requests in the ledger, in their order."""
    with closing(sqlite3.connect(home / "stillhouse.db", timeout=10)) as connection:
        return connection.execute(
            "SELECT prompt_tokens, completion_tokens, cost_picousd FROM request"
            " JOIN api_key ON api_key.id = key_id WHERE name = ? ORDER BY number",
            (name,),
        ).fetchall()


def as_in_ledger(answer, row):
    """Return a client's answer as a row of the ledger, with *row*'s figures for hidden ones."""
    cost_picousd = answer.cost_usd and round(answer.cost_usd * 10**12)
    shown = (answer.prompt_tokens, answer.completion_tokens, cost_picousd)
    return tuple(theirs if ours is None else ours for ours, theirs in zip(shown, row, strict=True))


def test_table_of_clients(run_of):
    """docs/clients.md lists these clients, their versions, and what was tried with each."""
    assert table_of(run_of(name) for name in CLIENTS) == committed_table()


@pytest.mark.parametrize(
    "command",
    [
        [sys.executable, "-c", "import socket; socket.create_connection(('192.0.2.1', 443))"],
        [sys.executable, "-c", "import httpx; httpx.get('http://192.0.2.1')"],
        [NODE, "-e", "require('net').connect(443, '192.0.2.1')"],
        [NODE, "-e", "fetch('http://192.0.2.1')"],
    ],
)
def test_calls_to_other_machines_are_refused_and_noted(tmp_path, command):
    """The hook that refuses calls to other machines works, and records them."""
    if command[0] == NODE and not INSTALLED.exists():
        pytest.skip(NOT_INSTALLED)
    done = subprocess.run(
        command, env=plain_environment(tmp_path), capture_output=True, check=False
    )

    assert 1 == done.returncode
    assert {"192.0.2.1"} == set(calls_outside(tmp_path))
