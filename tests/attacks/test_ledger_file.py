"""Faults of the ledger's file while a server runs: nothing is served unrecorded."""

from __future__ import annotations

import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner, Result

from stillhouse.cli.main import app
from stillhouse.errors import ConfigError
from tests.attacks.conftest import StartServer
from tests.faults.bare_client import BareClient
from tests.faults.fault_server import CHAT, HELLO, FaultServer, last_row
from tests.faults.preloaded import Preloaded

SLOW = "token_interval_s = 0.01\n"


def ask(server: FaultServer) -> httpx.Response:
    with server.client() as client:
        return client.post(CHAT, json=HELLO | {"max_tokens": 2})


def is_store_down(server: FaultServer, told: str) -> bool:
    """Return whether /readyz reports it; a probe's result is at most a second old."""
    answer = httpx.get(f"{server.url}/readyz")
    return answer.status_code == 503 and told in answer.json()["store"]


def command(home: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, arguments, env={"STILLHOUSE_HOME": str(home)})


def metric(server: FaultServer, name: str) -> float:
    lines = httpx.get(f"{server.url}/metrics").text.splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith(f"{name} "))


def test_deleted_ledger_is_noticed_and_nothing_is_served(start_server: StartServer) -> None:
    """Without its file the server refuses requests with the reason; restored, it settles them."""
    server = start_server(SLOW)
    ledger, away = server.home / "stillhouse.db", server.home / "away"
    with BareClient(server, max_tokens=30) as stream:
        stream.read(2)
        ledger.rename(away)
        refusal = ask(server)
        assert 503 == refusal.status_code
        assert "stillhouse.db was deleted" in refusal.text
        server.wait_until(lambda: is_store_down(server, "stillhouse.db was deleted"))
        server.wait_until(lambda: metric(server, "stillhouse_ledger_lost") == 1)
        assert "put the same file back" in server.log_text()
        assert not ledger.exists()
        away.rename(ledger)
        *_, finish, done = stream.events()
    assert finish is not None
    assert (30, None) == (finish["usage"]["completion_tokens"], done)
    assert ("SETTLED", 30) == (last_row(server.home).state, last_row(server.home).completion_tokens)
    assert 200 == ask(server).status_code
    server.wait_until(server.is_ready)


def test_missing_ledger_is_not_made_anew(start_server: StartServer, preloaded: Preloaded) -> None:
    """Beside a home that had a ledger, no command and no server takes an empty one for it."""
    server = start_server()
    assert 200 == ask(server).status_code
    server.stop()
    ledger, away = server.home / "stillhouse.db", server.home / "away"
    ledger.rename(away)
    for arguments in (["ledger", "verify"], ["keys", "list"]):
        result = command(server.home, *arguments)
        assert isinstance(result.exception, ConfigError)
        assert "holds no ledger any more" in result.exception.message
    refused = FaultServer(server.home, preloaded=preloaded)
    assert not refused.comes_up()
    assert "holds no ledger any more" in refused.log_text()
    assert not ledger.exists()
    assert 0 == command(server.home, "ledger", "adopt", "--new").exit_code
    verified = command(server.home, "ledger", "verify")
    assert (0, True) == (verified.exit_code, ": 0 requests" in verified.stderr)
    away.rename(ledger)
    with pytest.raises(ConfigError, match="this home was made with ledger"):
        raise command(server.home, "ledger", "verify").exception or AssertionError
    assert 0 == command(server.home, "ledger", "adopt").exit_code
    verified = command(server.home, "ledger", "verify")
    assert (0, True) == (
        verified.exit_code,
        re.search(r": 1 request\b", verified.stderr) is not None,
    )


@contextmanager
def full_disk(server: FaultServer) -> Iterator[None]:
    """No file of the server's can grow beyond the ledger's log, which so is full."""
    size = (server.home / "stillhouse.db-wal").stat().st_size
    before = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, before)


def test_readyz_says_that_the_disk_is_full(start_server: StartServer) -> None:
    """A server that cannot write its ledger is not ready, and is again when it can."""
    server = start_server()
    assert 200 == ask(server).status_code
    with full_disk(server):
        server.wait_until(lambda: is_store_down(server, "The ledger cannot be used now"))
        assert 503 == ask(server).status_code
    server.wait_until(server.is_ready)
    assert 200 == ask(server).status_code
