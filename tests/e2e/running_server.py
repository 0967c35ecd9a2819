"""Starts the real program from the command line."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from stillhouse.app.services import open_services
from tests.ledger_audit import audit_differences

START_TIMEOUT_S = 120
_URL_LINE = re.compile(r"on (http://\S+)")


@dataclass(frozen=True)
class RunningServer:
    """A server with a home of its own, and the key that its first start created."""

    url: str
    key: str
    home: Path
    banner: str
    process: subprocess.Popen[str]

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers=self.headers, timeout=120)

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a stillhouse command on the server's home."""
        return subprocess.run(
            [sys.executable, "-m", "stillhouse", *arguments],
            env=environment(self.home),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


def environment(home: Path) -> dict[str, str]:
    """Return a plain environment with *home* as stillhouse's home."""
    return {
        **{k: v for k, v in os.environ.items() if not k.startswith(("STILLHOUSE_", "DEEPINFRA_"))},
        "STILLHOUSE_HOME": str(home),
        "NO_COLOR": "1",
        "COLUMNS": "200",
        "PYTHONUNBUFFERED": "1",
    }


@contextmanager
def run_server(home: Path, *options: str) -> Iterator[RunningServer]:
    """Start a server on a free port; stop it with SIGTERM, and verify its ledger."""
    process = subprocess.Popen(
        [sys.executable, "-m", "stillhouse", "serve", "--port", "0", *options],
        env=environment(home),
        stderr=(log := (home.parent / f"{home.name}.log").open("w+")),
        text=True,
    )
    try:
        banner = _wait_for_banner(process, Path(log.name))
        match = _URL_LINE.search(banner)
        assert match
        key = (home / "key").read_text().strip()
        yield RunningServer(match[1], key, home, banner, process)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
        log.close()
    asyncio.run(verify_ledger(home))


async def verify_ledger(home: Path) -> None:
    """Assert that the ledger under *home* is consistent."""
    async with open_services(home) as services:
        assert [] == await audit_differences(services.ledger)


def _wait_for_banner(process: subprocess.Popen[str], log: Path) -> str:
    for _ in range(START_TIMEOUT_S * 50):
        text = log.read_text()
        if '"messages"' in text:
            return text
        try:
            process.wait(timeout=0.02)
        except subprocess.TimeoutExpired:
            continue
        break
    raise AssertionError(f"the server did not start:\n{log.read_text()}")
