"""Measures the memory of a process, and bounds its growth under attack."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.fault_server import FaultServer


def rss_mib(pid: int) -> float:
    """Return the resident memory of one process, without its children."""
    return _status_mib(pid, "VmRSS")


def peak_rss_mib(pid: int) -> float:
    """Return the peak of the resident memory since it was last reset."""
    return _status_mib(pid, "VmHWM")


@contextmanager
def at_most_mib_more(server: FaultServer, most_mib: float) -> Iterator[None]:
    """Assert that the peak of the gateway's memory rises by at most *most_mib*."""
    pid = server.process.pid
    Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")  # resets the peak
    before_mib = rss_mib(pid)
    yield
    grown_mib = peak_rss_mib(pid) - before_mib
    assert grown_mib <= most_mib, f"{grown_mib:.0f} MiB more than {before_mib:.0f} MiB"


def _status_mib(pid: int, field: str) -> float:
    text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    match = re.search(rf"^{field}:\s+(\d+) kB$", text, re.MULTILINE)
    assert match, text
    return int(match[1]) / 1024
