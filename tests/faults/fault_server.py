"""Runs the real program with the fake engine, for tests that inject faults."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from stillhouse.app.services import open_services
from stillhouse.catalogue.demo_models import DEMO_MODEL
from stillhouse.testing.failpoints import VARIABLE as FAILPOINT_VARIABLE
from stillhouse.testing.fake_engine.witness import Witnessed, read_witness_log
from tests.e2e.running_server import environment
from tests.faults.preloaded import ForkedProcess, Preloaded
from tests.ledger_audit import audit_differences

CHAT = "/v1/openai/chat/completions"
HELLO = {"model": DEMO_MODEL, "messages": [{"role": "user", "content": "Hello!"}]}
INPUT_PICOUSD, OUTPUT_PICOUSD = 200_000, 600_000  # the demo model's price per token

WAIT_S = 30
POLL_S = 0.005
_URL_LINE = re.compile(r"on http://(?:127.0.0.1|0.0.0.0):(\d+)")


@dataclass(frozen=True, slots=True)
class Row:
    """A request's row of the ledger."""

    request_id: str
    state: str
    outcome: str | None
    usage_source: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    cost_picousd: int | None


class FaultServer:
    """
    One run of the program on a home folder, which survives it.

    Args:
        engine: TOML of the tables under ``[engine]``, keys of ``[engine.fake]`` first, or of
            ``[engine]`` for another *kind*.
        general: TOML of the top-level keys.
        kind: The engine's kind.
        failpoint: The failpoint at which the process dies.
        preloaded: The process to fork from; None starts the program from the command line.

    """

    def __init__(
        self,
        home: Path,
        engine: str = "",
        *,
        general: str = "",
        kind: str = "fake",
        failpoint: str = "",
        preloaded: Preloaded | None = None,
    ) -> None:
        self.home = home
        self.port = 0
        config = home.with_suffix(".toml")
        fake = '[engine.fake]\nwitness_log = "witness.jsonl"\n' if kind == "fake" else ""
        config.write_text(
            f'{general}\n[models."{DEMO_MODEL}"]\n[engine]\nkind = "{kind}"\n{fake}{engine}'
        )
        self._log = home.with_suffix(".log")
        start = preloaded.start if preloaded else _start
        self.process: subprocess.Popen[bytes] | ForkedProcess = start(
            ["serve", "--port=0", "--config", str(config)],
            environment(home) | {FAILPOINT_VARIABLE: failpoint},
            self._log,
        )
        # One for all: creating one reads the system's certificates, which takes 30 ms.
        self._probe = httpx.Client(timeout=WAIT_S)

    def comes_up(self) -> bool:
        """Wait until the server is ready (True) or has died at its failpoint (False)."""
        self.wait_until(lambda: self._is_up() or self.is_dead, may_die=True)
        return not self.is_dead

    def _is_up(self) -> bool:
        if '"messages"' not in self.log_text():  # the last line of the banner
            return False
        match = _URL_LINE.search(self.log_text())
        assert match
        self.port = int(match[1])
        return True

    @property
    def is_dead(self) -> bool:
        return self.process.poll() is not None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {(self.home / 'key').read_text().strip()}"}

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers=self.headers, timeout=WAIT_S)

    def log_text(self) -> str:
        """Return the whole log."""
        return self._log.read_text()

    def alarms(self, event: str) -> list[dict[str, Any]]:
        """Return the log records of *event*."""
        lines = [line for line in self.log_text().splitlines() if line.startswith('{"')]
        return [fact for fact in map(json.loads, lines) if fact["event"] == event]

    def outstanding(self) -> float:
        """Return the requests in flight, from the server's metrics."""
        for line in self._probe.get(self.url + "/metrics").text.splitlines():
            if line.startswith("stillhouse_outstanding_requests{"):
                return float(line.split()[-1])
        return 0

    def is_ready(self) -> bool:
        return self._probe.get(self.url + "/readyz").status_code == 200

    def wait_until(self, condition: Callable[[], object], *, may_die: bool = False) -> None:
        """Poll a condition for a bounded time, while the server lives."""
        give_up_at_s = time.monotonic() + WAIT_S
        while time.monotonic() < give_up_at_s:
            if condition():
                return
            try:
                self.process.wait(POLL_S)
            except subprocess.TimeoutExpired:
                continue
            assert may_die, f"the server died:\n{self.log_text()}"
        raise AssertionError(f"it did not come true:\n{self.log_text()}")

    def kill(self) -> None:
        """Send SIGKILL, if the server lives."""
        self.process.kill()
        self.process.wait(WAIT_S)
        self._probe.close()

    def stop(self) -> None:
        """Send SIGTERM, as a service manager does, if the server lives."""
        if self.is_dead:
            return
        self.process.send_signal(signal.SIGTERM)
        assert 0 == self.process.wait(WAIT_S), self.log_text()


def _start(
    arguments: Sequence[str], environment: dict[str, str], log: Path
) -> subprocess.Popen[bytes]:
    with log.open("w") as stderr:
        return subprocess.Popen(
            [sys.executable, "-m", "stillhouse", *arguments], env=environment, stderr=stderr
        )


@contextmanager
def run_fault_server(
    home: Path,
    engine: str = "",
    *,
    general: str = "",
    kind: str = "fake",
    preloaded: Preloaded | None = None,
) -> Iterator[FaultServer]:
    """Serve *home*; at the end, its ledger must be consistent and agree with the token log."""
    server = FaultServer(home, engine, general=general, kind=kind, preloaded=preloaded)
    try:
        assert server.comes_up()
        yield server
        server.stop()
    finally:
        server.kill()
    assert_nothing_is_held(home)
    assert_ledger_is_right(home)


def rows(home: Path) -> dict[str, Row]:
    """Return every request of the ledger by its id, oldest first."""
    query = (
        "SELECT request_id, state, outcome, usage_source, prompt_tokens, completion_tokens,"
        " cost_picousd FROM request ORDER BY number"
    )
    with closing(sqlite3.connect(f"file:{home}/stillhouse.db?mode=ro", uri=True)) as database:
        return {row[0]: Row(*row) for row in database.execute(query)}


def last_row(home: Path) -> Row:
    """Return the request that was admitted last."""
    return list(rows(home).values())[-1]


def witness_log(home: Path) -> dict[str, Witnessed]:
    """Return the engine's own token log, by request id."""
    path = home / "witness.jsonl"
    return read_witness_log(path) if path.exists() else {}


def assert_nothing_is_held(home: Path) -> None:
    assert [] == [row for row in rows(home).values() if row.state == "HELD"]


def assert_ledger_is_right(home: Path) -> None:
    """Assert that `ledger verify` finds nothing, and that each row agrees with the token log."""
    asyncio.run(_sweep_and_verify(home))
    if not (log := witness_log(home)):  # only the fake engine has one
        return
    for row in rows(home).values():
        made = log.get(row.request_id, Witnessed([])).token_ids
        if row.state == "SETTLED" and row.usage_source == "engine":
            assert len(made) == row.completion_tokens, row
        else:
            assert len(made) >= (row.completion_tokens or 0), row


async def _sweep_and_verify(home: Path) -> None:
    async with open_services(home, is_server=True) as opened:
        await opened.ledger.leases.sweep()
        assert [] == await audit_differences(opened.ledger)


def cost_picousd(prompt_tokens: int, completion_tokens: int) -> int:
    """Return the cost by the demo model's price."""
    return INPUT_PICOUSD * prompt_tokens + OUTPUT_PICOUSD * completion_tokens
