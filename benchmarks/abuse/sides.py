"""Starts the servers of the two versions that are compared, and the attackers' processes."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from benchmarks.abuse.attack import AttackSpec

START_TIMEOUT_S = 60
#: Starts a program with a limit of open files.
WITH_FILES = (
    "import os, resource, sys; n = int(sys.argv[1]); "
    "resource.setrlimit(resource.RLIMIT_NOFILE, (n, n)); os.execv(sys.argv[2], sys.argv[2:])"
)


@dataclass(frozen=True)
class Server:
    """A running server with a victim and two attackers among its customers."""

    port: int
    process: subprocess.Popen[bytes]
    victim_key: str
    attacker_keys: list[str]

    def rss_mib(self) -> float:
        """Return the gateway's resident memory."""
        return self._status_mib("VmRSS")

    def peak_rss_mib(self) -> float:
        """Return the peak of the resident memory since `forget_peak`."""
        return self._status_mib("VmHWM")

    def forget_peak(self) -> None:
        """Reset the peak of the resident memory (Linux)."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5", encoding="ascii")

    def _status_mib(self, name: str) -> float:
        text = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        found = re.search(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE)
        assert found
        return int(found[1]) / 1024


@dataclass
class Side:
    """
    A checkout whose server is started for each scenario.

    Args:
        root: The checkout's folder; its ``.venv`` runs it, or this Python if it has none.

    """

    name: str
    root: Path
    folder: Path
    keys: dict[str, str] = field(default_factory=dict)

    @classmethod
    def prepare(cls, name: str, root: Path, folder: Path) -> Self:
        """Create the accounts once; each server gets a copy of their database."""
        side = cls(name, root.resolve(), folder / name)
        side.folder.mkdir()
        for account in ("victim", "attacker", "accomplice"):
            side._command("accounts", "create", account)
            side.keys[account] = side._command("keys", "create", "main", "--account", account)
        return side

    @property
    def commit(self) -> str:
        """Return the checkout's commit, with a plus if files were changed."""
        git = ["git", "-C", str(self.root), "describe", "--always", "--dirty=+"]
        return subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()

    @property
    def _python(self) -> str:
        own = self.root / ".venv" / "bin" / "python"
        return str(own) if own.exists() else sys.executable

    def _environment(self, home: Path) -> dict[str, str]:
        return os.environ | {
            "STILLHOUSE_HOME": str(home),
            "PYTHONPATH": str(self.root / "src"),
            "NO_COLOR": "1",
            "COLUMNS": "200",
        }

    def _command(self, *arguments: str) -> str:
        done = subprocess.run(
            [self._python, "-m", "stillhouse", *arguments],
            env=self._environment(self.folder / "home"),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(done.stderr)
        return done.stdout.strip()

    @contextmanager
    def serve(self, config: str, *, num_files: int) -> Iterator[Server]:
        """Serve a fresh copy of the accounts; the server is killed at the end."""
        home, log = self.folder / "served", self.folder / "server.log"
        shutil.rmtree(home, ignore_errors=True)
        shutil.copytree(self.folder / "home", home)
        (self.folder / "stillhouse.toml").write_text(config, encoding="utf-8")
        launch = [sys.executable, "-c", WITH_FILES, str(num_files), self._python, "-m"]
        serve = ["serve", "--port", "0", "--config", str(self.folder / "stillhouse.toml")]
        process = subprocess.Popen(
            [*launch, "stillhouse", *serve],
            env=self._environment(home),
            stderr=log.open("w"),
        )
        try:
            port = wait_for_port(process, log)
            attackers = [self.keys["attacker"], self.keys["accomplice"]]
            yield Server(port, process, self.keys["victim"], attackers)
        finally:
            process.kill()
            process.wait()


def wait_for_port(process: subprocess.Popen[bytes], log: Path) -> int:
    """Return the server's port as soon as it serves."""
    for _ in range(START_TIMEOUT_S * 20):
        text = log.read_text(encoding="utf-8")
        found = re.search(r"on http://127\.0\.0\.1:(\d+)", text)
        if found and '"messages"' in text:  # the banner's last line
            return int(found[1])
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise SystemExit(f"the server did not start:\n{log.read_text(encoding='utf-8')}")


class AttackerProcess:
    """An attacker's process, which is ready and waits for `begin`."""

    def __init__(self, spec: AttackSpec) -> None:
        self._process = start_attackers()
        self._write(json.dumps(asdict(spec)))
        assert self._read() == "ready"

    def begin(self) -> None:
        """Start the attack."""
        self._write("")

    def end(self) -> dict[str, Any]:
        """Wait until the attack ends; return its counts."""
        result: dict[str, Any] = self._read()
        self._process.communicate()
        return result

    def _write(self, line: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _read(self) -> Any:
        assert self._process.stdout
        return json.loads(self._process.stdout.readline())


@contextmanager
def run_sink() -> Iterator[int]:
    """Run the sink; yield its port."""
    process = start_attackers()
    assert process.stdin
    assert process.stdout
    process.stdin.write('"sink"\n')
    process.stdin.flush()
    yield int(json.loads(process.stdout.readline())["port"])
    process.stdin.close()
    process.wait()


def start_attackers() -> subprocess.Popen[str]:
    """Start an attacker's process, which waits for its spec."""
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.abuse.attackers"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
