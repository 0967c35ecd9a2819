"""Runs third-party clients against a server, each by a script in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from stillhouse.catalogue.demo_models import DEMO_MODEL, DEMO_TOOLS_MODEL

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
TABLE_DOCUMENT = ROOT / "docs" / "clients.md"
TABLE_HEADING = "## What was tried\n"
INSTALLED = ROOT / ".venv" / "clients.stamp"
NODE = ROOT / ".venv" / "clients" / "bin" / "node"
_PYTHON = NODE.with_name("python")
_OURS = Path(sys.executable)
_ONLY_LOOPBACK = FOLDER / "only_loopback"
_TIMEOUT_S = 120


@dataclass(frozen=True)
class Client:
    """A script that exercises one client, and its interpreter."""

    name: str
    language: str
    script: Path
    interpreter: Path

    @property
    def is_installed(self) -> bool:
        """Whether `make test` has installed it."""
        return self.interpreter == _OURS or INSTALLED.exists()


class Answer(NamedTuple):
    """The figures that a client shows of one charged answer; None if it shows none."""

    prompt_tokens: int | None
    completion_tokens: int | None
    cost_usd: float | None


@dataclass(frozen=True)
class Run:
    """The report of a successful script, and the other machines that it called."""

    language: str
    client: str
    version: str
    pointed: str
    tried: list[str]
    answers: list[Answer]
    calls_outside: list[str]


def _python_clients() -> Iterable[Client]:
    for script in sorted((FOLDER / "python").glob("*_client.py")):
        yield Client(f"python/{script.stem}", "Python", script, _PYTHON)
    # Some other clients hold `openai` back in their environment; ours has its newest release.
    newest = FOLDER / "python" / "openai_client.py"
    yield Client("python/openai_client (newest)", "Python", newest, _OURS)


def _node_clients() -> Iterable[Client]:
    for script in sorted((FOLDER / "node").glob("*_client.mjs")):
        yield Client(f"node/{script.stem}", "Node", script, NODE)


CLIENTS = {client.name: client for client in (*_python_clients(), *_node_clients())}


def run_client(client: Client, *, url: str, key: str, home: Path) -> Run:
    """
    Run a client's script.

    Args:
        home: An empty folder for the client's files.

    """
    done = subprocess.run(
        [client.interpreter, client.script],
        env=plain_environment(home)
        | {
            "SERVER_URL": url,
            "API_KEY": key,
            "MODEL": DEMO_MODEL,
            "TOOLS_MODEL": DEMO_TOOLS_MODEL,
        },
        cwd=home,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    assert 0 == done.returncode, f"{client.name}:\n{done.stdout}\n{done.stderr}"
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    answers = [Answer(*answer) for answer in report.pop("answers")]
    return Run(
        **report, language=client.language, answers=answers, calls_outside=calls_outside(home)
    )


def calls_outside(home: Path) -> list[str]:
    """Return the other machines that were called in the environment of *home*."""
    noted = home / "calls-outside"
    return noted.read_text().splitlines() if noted.exists() else []


def plain_environment(home: Path) -> dict[str, str]:
    """Return an environment without proxies, keys or settings, which allows no calls elsewhere."""
    return {
        "CALLS_OUTSIDE": str(home / "calls-outside"),
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "LLM_USER_PATH": str(home),
        "PYTHONPATH": str(_ONLY_LOOPBACK),
        "NODE_OPTIONS": f"--import={(_ONLY_LOOPBACK / 'hook.mjs').as_uri()}",
        # Without it, litellm downloads its price list at import.
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }


def table_of(runs: Iterable[Run]) -> str:
    """Return the runs as a Markdown table with a row for each client."""
    rows = sorted(_row(run) for run in runs)
    head = (
        "| for | client | version | pointed at stillhouse | tried | shows |\n"
        "|---|---|---|---|---|---|\n"
    )
    return head + "".join(rows)


def _row(run: Run) -> str:
    tried, shown = ", ".join(run.tried), _shown(run)
    cells = (run.language, run.client, run.version, f"`{run.pointed}`", tried, shown)
    return f"| {' | '.join(cells)} |\n"


def _shown(run: Run) -> str:
    if any(answer.cost_usd is not None for answer in run.answers):
        return "tokens, cost"
    return "tokens" if any(answer.prompt_tokens for answer in run.answers) else "–"


def committed_table() -> str:
    """Return the table in docs/clients.md."""
    return TABLE_DOCUMENT.read_text().partition(TABLE_HEADING)[2].strip("\n") + "\n"
