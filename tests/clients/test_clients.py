"""Other people's clients, pointed at the running server and doing what their READMEs show."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable

import pytest

from stillhouse.app import open_rooms
from stillhouse.billing.usage import UsageGrouping
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
    """A client's run, with a key of its own; each client runs once, whoever asks first."""
    runs: dict[str, Run] = {}
    begun: set[str] = set()

    def run(name: str) -> Run:
        if name not in runs:
            assert name not in begun, f"{name} failed, as its own test shows"
            begun.add(name)
            client = CLIENTS[name]
            if not client.is_installed:
                pytest.skip(NOT_INSTALLED)
            with server.client() as http:
                key = http.post("/v1/api-tokens", json={"name": name}).json()["token"]
            home = tmp_path_factory.mktemp("home")
            runs[name] = run_client(client, url=server.url, key=key, home=home)
        return runs[name]

    return run


@pytest.mark.parametrize("name", CLIENTS)
def test_client(server, run_of, name):
    """A client does what it is for, calls nobody else, and pays for its answers alone."""
    run = run_of(name)

    expected = EVERYWHERE - {"stream"} if run.client in WITHOUT_STREAM else EVERYWHERE
    assert set() == expected - set(run.tried)
    assert [] == run.calls_outside
    assert_paid_for(run.answers, asyncio.run(usage_of_key(server.home, name)))


async def usage_of_key(home, name):
    async with open_rooms(home) as rooms:
        lines = await rooms.ledger.usage(by=UsageGrouping.KEY, from_ms=0)
    return next(line for line in lines if line.heading == name)


def assert_paid_for(answers, line):
    """As many requests as answers came; the same figures, or no less where some are not shown."""
    assert (len(answers), 0) == (line.num_requests, line.num_voided)
    costs = [a.cost_usd and round(a.cost_usd * 10**12) for a in answers]
    for shown, charged in (
        ([a.prompt_tokens for a in answers], line.prompt_tokens),
        ([a.completion_tokens for a in answers], line.completion_tokens),
        (costs, line.cost_picousd),
    ):
        total = sum(figure or 0 for figure in shown)
        assert total <= charged
        assert None in shown or total == charged


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
    """What keeps clients from calling anybody else would notice if they did."""
    if command[0] == NODE and not INSTALLED.exists():
        pytest.skip(NOT_INSTALLED)
    done = subprocess.run(
        command, env=plain_environment(tmp_path), capture_output=True, check=False
    )

    assert 1 == done.returncode
    assert {"192.0.2.1"} == set(calls_outside(tmp_path))
