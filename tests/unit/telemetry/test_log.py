from __future__ import annotations

import json
import subprocess
import sys

SCRIPT = """
import logging, warnings
import structlog
from stillhouse.telemetry.log import log_to_stderr

log_to_stderr()
structlog.get_logger().info("ours", number=1)
logging.getLogger("library").warning("theirs: %d", 2)
warnings.warn("a warning", stacklevel=1)
try:
    secret = "what a client wrote"
    raise ValueError("broken")
except ValueError:
    logging.getLogger("library").exception("failed")
"""


def test_every_line_is_json():
    """Lines of structlog, of the standard library and of warnings have the same fields."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True
    )
    lines = [json.loads(line) for line in done.stderr.splitlines()]

    assert ["info", "warning", "warning", "error"] == [line["level"] for line in lines]
    assert ("ours", 1) == (lines[0]["event"], lines[0]["number"])
    assert ("theirs: 2", "library") == (lines[1]["event"], lines[1]["logger"])
    assert "a warning" in lines[2]["event"]
    assert "ValueError: broken" in lines[3]["exception"]
    assert all(line["timestamp"].endswith("Z") for line in lines)
    assert "what a client wrote" not in lines[3]["exception"].replace(SCRIPT, "")
