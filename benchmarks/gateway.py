"""
Measures the gateway: streamed tokens and short requests per second, and idle streams.

The real program runs over the fake engine, which generates tokens without computing. The gateway
is pinned to one core; the engine's worker and the client, which reads raw bytes, share another.

    python -m benchmarks.gateway
    python -m benchmarks.gateway --only tokens --seconds 3
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import uvloop

from benchmarks.service import start_server
from stillhouse.catalogue.demo_models import DEMO_MODEL

GATEWAY_CORE, OTHER_CORE = 0, 1
TOKENS_PER_STREAM = 400  # the fake engine's block accounting allows 256 of them
CONFIG = """
[queue]
max_outstanding = 8192
[models."stillhouse/demo-r1"]
[limits]
max_outstanding = 8192
[engine]
kind = "fake"
[engine.fake]
slots = 4096
token_interval_s = {interval_s}
"""


@dataclass(frozen=True)
class Gateway:
    """The real program, on a core of its own if there are two."""

    port: int
    key: str
    process: subprocess.Popen[bytes]

    def request(self, *, stream: bool, max_tokens: int) -> bytes:
        """Return a chat request for a keep-alive connection."""
        body = json.dumps(
            {
                "model": DEMO_MODEL,
                "messages": [{"role": "user", "content": "Hello!"}],
                "stream": stream,
                "max_tokens": max_tokens,
            }
        ).encode()
        return (
            "POST /v1/openai/chat/completions HTTP/1.1\r\nHost: x\r\n"
            f"Authorization: Bearer {self.key}\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode() + body

    @property
    def cpu_s(self) -> float:
        """Return the processor time of the gateway, without its engine's."""
        fields = self._file("stat").rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def rss_kib(self) -> int:
        """Return the gateway's resident memory."""
        line = next(s for s in self._file("status").splitlines() if s.startswith("VmRSS"))
        return int(line.split()[1])

    @property
    def num_files(self) -> int:
        """Return the number of open files, sockets included."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def _file(self, name: str) -> str:
        return Path(f"/proc/{self.process.pid}/{name}").read_text()


@contextmanager
def run_gateway(*, interval_s: float = 0) -> Iterator[Gateway]:
    """Start the gateway with an engine that generates a token every *interval_s*."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = folder / "stillhouse.toml"
        config.write_text(CONFIG.format(interval_s=interval_s))
        url, process = start_server(folder, ["--config", str(config)])
        if os.cpu_count() != 1:
            _pin(process.pid, GATEWAY_CORE)
            for child in _children(process.pid):
                _pin(child, OTHER_CORE)
            _pin(os.getpid(), OTHER_CORE)
        try:
            key = (folder / "home" / "key").read_text().strip()
            yield Gateway(int(url.rpartition(":")[2]), key, process)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def _pin(pid: int, core: int) -> None:
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), {core})


@dataclass(eq=False)
class Client(asyncio.Protocol):
    """
    Sends one request after the other on one connection, and counts a marker in the answers.

    Args:
        end: The last bytes of each answer.
        mark: The bytes that are counted.

    """

    request: bytes
    end: bytes
    mark: bytes
    count: int = 0
    num_answers: int = 0
    is_to_stop: bool = False
    latencies_s: list[float] = field(default_factory=list)
    _tail: bytes = b""
    _sent_s: float = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is another class
        self.begun = asyncio.get_running_loop().create_future()
        self.done = asyncio.get_running_loop().create_future()
        self._send()

    def data_received(self, data: bytes) -> None:
        """Count markers, and send the next request at the end of an answer."""
        # A marker split between two reads is counted with its second half.
        if not self.begun.done():
            self.begun.set_result(None)
        seen = self._tail + data
        self.count += seen.count(self.mark)
        self._tail = seen[-(len(self.mark) - 1) :]
        if seen.endswith(self.end):
            self.latencies_s.append(time.perf_counter() - self._sent_s)
            self.num_answers += 1
            self._tail = b""
            if self.is_to_stop:
                self.transport.close()
            else:
                self._send()

    def connection_lost(self, _error: Exception | None) -> None:
        """Note the end of the connection."""
        if not self.done.done():
            self.done.set_result(None)

    def _send(self) -> None:
        self._sent_s = time.perf_counter()
        self.transport.write(self.request)


async def connect(gateway: Gateway, make: Callable[[], Client]) -> Client:
    """Return a connected client that has sent its first request."""
    loop = asyncio.get_running_loop()
    _, client = await loop.create_connection(make, "127.0.0.1", gateway.port)
    return client


async def stop(clients: list[Client]) -> None:
    """Wait until every client has finished its current request."""
    for client in clients:
        client.is_to_stop = True
    await asyncio.gather(*(client.done for client in clients))


async def measure_tokens(gateway: Gateway, seconds: float) -> None:
    """Print the streamed tokens per second of all streams together."""
    print("| streams | tokens/s | gateway's core busy | tokens per busy second |")
    print("|---|---|---|---|", flush=True)
    request = gateway.request(stream=True, max_tokens=TOKENS_PER_STREAM)
    for num_streams in (1, 16, 64, 256):
        clients = [
            await connect(gateway, lambda: Client(request, b"0\r\n\r\n", b"data: "))
            for _ in range(num_streams)
        ]
        await asyncio.sleep(0.5)
        rate, busy = await _rate(gateway, seconds, clients, of="count")
        await stop(clients)
        print(f"| {num_streams} | {rate:,.0f} | {busy:.0%} | {rate / busy:,.0f} |", flush=True)


async def measure_requests(gateway: Gateway, seconds: float) -> None:
    """Print the short requests per second without streaming, on keep-alive connections."""
    print("\n| clients | requests/s | p50 ms | p99 ms | core busy | requests per busy second |")
    print("|---|---|---|---|---|---|", flush=True)
    request = gateway.request(stream=False, max_tokens=1)
    for num_clients in (1, 16, 64):
        clients = [
            await connect(gateway, lambda: Client(request, b"}", b'"usage"'))
            for _ in range(num_clients)
        ]
        await asyncio.sleep(0.5)
        for client in clients:
            client.latencies_s.clear()
        rate, busy = await _rate(gateway, seconds, clients, of="num_answers")
        await stop(clients)
        p50, p99 = _quantiles_ms([s for client in clients for s in client.latencies_s])
        print(
            f"| {num_clients} | {rate:,.0f} | {p50:.2f} | {p99:.2f} "
            f"| {busy:.0%} | {rate / busy:,.0f} |",
            flush=True,
        )


async def _rate(
    gateway: Gateway, seconds: float, clients: list[Client], *, of: str
) -> tuple[float, float]:
    """Return the rate at which a count grows, and the gateway's processor time per second."""

    def count() -> int:
        return sum(getattr(client, of) for client in clients)

    before, cpu_s, started_s = count(), gateway.cpu_s, time.perf_counter()
    await asyncio.sleep(seconds)
    took_s = time.perf_counter() - started_s
    return (count() - before) / took_s, max(0.01, gateway.cpu_s - cpu_s) / took_s


def _quantiles_ms(samples_s: list[float]) -> tuple[float, float]:
    cuts = statistics.quantiles(samples_s, n=100)
    return cuts[49] * 1000, cuts[98] * 1000


async def measure_idle(gateway: Gateway, num_streams: int) -> None:
    """Print the memory of idle streams, the latency of /livez, and the memory left afterwards."""
    warm_up = [await _idle_stream(gateway) for _ in range(50)]
    await _leave(gateway, warm_up)
    rss_kib, num_files = gateway.rss_kib, gateway.num_files
    clients = [await _idle_stream(gateway) for _ in range(num_streams)]
    await asyncio.gather(*(client.begun for client in clients))
    await asyncio.sleep(2)
    grown_kib = gateway.rss_kib - rss_kib
    probe = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
    prober = await connect(gateway, lambda: Client(probe, b"ok\n", b"200"))
    await asyncio.sleep(16)  # each stream has received an event
    await stop([prober])
    p50, p99 = _quantiles_ms(prober.latencies_s)
    num_dropped = sum(client.done.done() for client in clients)
    took_s = await _leave(gateway, clients)
    print("\n| idle streams | KiB each | /livez p50 ms | p99 ms | dropped | left after closing |")
    print("|---|---|---|---|---|---|")
    print(
        f"| {num_streams} | {grown_kib / num_streams:.1f} | {p50:.2f} | {p99:.2f} | {num_dropped} "
        f"| {gateway.num_files - num_files} files, {gateway.rss_kib - rss_kib:+} KiB "
        f"of {rss_kib} after {took_s:.1f} s |",
        flush=True,
    )


async def _idle_stream(gateway: Gateway) -> Client:
    request = gateway.request(stream=True, max_tokens=16)
    return await connect(gateway, lambda: Client(request, b"0\r\n\r\n", b"data: "))


async def _leave(gateway: Gateway, clients: list[Client]) -> float:
    """Disconnect all, and return how long the gateway took to close the connections."""
    num_files = gateway.num_files - len(clients)
    started_s = time.perf_counter()
    for client in clients:
        client.transport.abort()
    give_up_s = started_s + 30
    while gateway.num_files > num_files + 2 and time.perf_counter() < give_up_s:  # noqa: ASYNC110  (another process has no event)
        await asyncio.sleep(0.05)
    took_s = time.perf_counter() - started_s
    await asyncio.sleep(2)
    return took_s


def main() -> None:
    """Print one Markdown table per measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--only", choices=["tokens", "requests", "idle"])
    parser.add_argument("--idle-streams", type=int, default=2000)
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        if options.only in {None, "tokens", "requests"}:
            with run_gateway() as gateway:
                if options.only != "requests":
                    runner.run(measure_tokens(gateway, options.seconds))
                if options.only != "tokens":
                    runner.run(measure_requests(gateway, options.seconds))
        if options.only in {None, "idle"}:
            with run_gateway(interval_s=15) as gateway:
                runner.run(measure_idle(gateway, options.idle_streams))


if __name__ == "__main__":
    main()
