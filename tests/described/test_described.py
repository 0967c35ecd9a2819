"""Schemathesis compares the server with its own OpenAPI description."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.e2e.running_server import RunningServer, run_server

ROOT = Path(__file__).parents[2]
INSTALLED = ROOT / ".venv" / "schemathesis.stamp"
SCHEMATHESIS = ROOT / ".venv" / "schemathesis" / "bin" / "st"
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "ignored_auth",
    "unsupported_method",
    "allow_header_conformance",
)
# A body can also be wrong by its size, or ask for what no model here can.
CONFIG = '[checks.negative_data_rejection]\nexpected-statuses = ["4xx"]\n'
#: Few by default, and the same ones each time; `make test-slow` asks for many.
NUM_EXAMPLES = int(os.environ.get("STILLHOUSE_DESCRIBED_EXAMPLES", "0"))
FEW = ("--max-examples", "5", "--phases", "fuzzing", "--seed", "1")
MANY = ("--max-examples", str(NUM_EXAMPLES), "--phases", "coverage,fuzzing")
#: Second paths of endpoints that are tested under another one.
TWINS = "^/(v1/openai|anthropic)/"


@pytest.mark.skipif(not INSTALLED.exists(), reason="`make test` installs schemathesis")
def test_server_is_as_it_is_described(tmp_path):
    """No response is a 5xx, or has a status, type or shape that /openapi.json does not describe."""
    with run_server(tmp_path / "state") as server:
        engines = engines_of(server.process.pid)
        found = run_schemathesis(server, tmp_path, *(MANY if NUM_EXAMPLES else FEW))
        assert not found, found  # all of it, as pytest shortens what it compares
        assert engines == engines_of(server.process.pid)


def run_schemathesis(server: RunningServer, folder: Path, *options: str) -> str:
    """Run schemathesis and return its findings."""
    (folder / "schemathesis.toml").write_text(CONFIG)
    done = subprocess.run(
        [
            *(str(SCHEMATHESIS), "--config-file", str(folder / "schemathesis.toml"), "run"),
            f"{server.url}/openapi.json",
            *("--header", f"Authorization: {server.headers['Authorization']}"),
            *("--checks", ",".join(CHECKS), "--suppress-health-check", "all"),
            *("--continue-on-failure", "--no-shrink", "--no-color"),
            *("--exclude-path-regex", TWINS),
            *options,
        ],
        cwd=folder,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(Path(__file__).parent),
            "SCHEMATHESIS_HOOKS": "hooks",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr if done.returncode else ""


def engines_of(pid: int) -> list[str]:
    """Return the processes of a server's engines."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid for pid in children if "engines" in Path(f"/proc/{pid}/cmdline").read_text()]
