"""
Measures how fast the server refuses malicious bodies, and how long other clients wait meanwhile.

    python -m benchmarks.bombs

Each body of tests/e2e/bombs.py is sent five times to a real server while a second client asks for
/livez without a pause. The table has the median time to the refusal, the longest time that /livez
took, and the growth of the server's memory.
"""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from pathlib import Path

import httpx
from tests.e2e.bombs import BOMBS, PACKED_BOMBS
from tests.e2e.running_server import RunningServer, run_server

CHAT = "/v1/openai/chat/completions"
ROUNDS = 5


class Neighbour(threading.Thread):
    """Asks for /livez without a pause, and records the longest wait."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self._url = url
        self.longest_s = 0.0

    def run(self) -> None:
        """Ask until the process ends."""
        with httpx.Client(base_url=self._url, timeout=60) as client:
            while True:
                start_s = time.perf_counter()
                client.get("/livez")
                self.longest_s = max(self.longest_s, time.perf_counter() - start_s)


def main() -> None:
    """Print a row for each body."""
    with tempfile.TemporaryDirectory() as folder, run_server(Path(folder) / "state") as server:
        neighbour = Neighbour(server.url)
        neighbour.start()
        print(f"{'':40} {'MiB':>6} {'status':>6} {'refused ms':>10} {'livez ms':>9} {'RSS MiB':>8}")
        for bombs, encoding in ((BOMBS, "identity"), (PACKED_BOMBS, "gzip")):
            for name, make in bombs.items():
                _measure(server, neighbour, name, make(), encoding)


def _measure(
    server: RunningServer, neighbour: Neighbour, name: str, body: bytes, encoding: str
) -> None:
    before_mib = _rss_mib(server.process.pid)
    neighbour.longest_s = 0.0
    times_s = []
    status = 0
    with server.client() as client:
        for _ in range(ROUNDS):
            start_s = time.perf_counter()
            response = client.post(CHAT, content=body, headers={"Content-Encoding": encoding})
            times_s.append(time.perf_counter() - start_s)
            status = response.status_code
    grown_mib = _rss_mib(server.process.pid) - before_mib
    print(
        f"{name:40} {len(body) / 2**20:6.1f} {status:6} {1000 * statistics.median(times_s):10.1f} "
        f"{1000 * neighbour.longest_s:9.1f} {grown_mib:8.1f}"
    )


def _rss_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / 2**20


if __name__ == "__main__":
    main()
