"""
More than a server can do, and one customer who asks for more than their share.

The real server with the fake engine, whose capacity is known: so many slots, so long per answer.
Loads are open loops with Poisson arrivals, sent from this process.

    python benchmarks/overload.py                       # three times the capacity, then fairness
    python benchmarks/overload.py --seconds 60 --only overload
    python benchmarks/overload.py --seconds 120 --only fairness

Overload: what the server can do is measured first (a closed loop that keeps every slot busy), then
three times that is offered. Fairness: two accounts at three tenths of the capacity each, then one
of them at ten times that, and the other one's first tokens before and after.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.e2e.running_server import RunningServer, run_server

from stillhouse.bench.benchmark import Benchmark, Plan
from stillhouse.bench.client import Target
from stillhouse.bench.distributions import Constant
from stillhouse.bench.document import LoadShape, Run
from stillhouse.bench.goodput import GoodputTarget, is_good
from stillhouse.bench.load_key import KeyRing, LoadKey
from stillhouse.bench.workload import Extent, SyntheticShape
from stillhouse.clock import SystemClock
from stillhouse.config import DEMO_MODEL

SLOTS = 32
OUTPUT_TOKENS = 20
FIRST_TOKEN_S, TOKEN_INTERVAL_S = 0.3, 0.02
QUEUED = 48  # about a second's work
#: A second in the queue, and the prompt.
TARGET = GoodputTarget("ttft", 2.0)
CONFIG = f"""
max_outstanding = {{places}}
[models."{DEMO_MODEL}"]
[engine]
kind = "fake"
[engine.fake]
slots = {SLOTS}
first_token_s = {FIRST_TOKEN_S}
token_interval_s = {TOKEN_INTERVAL_S}
[limits]
max_outstanding = {SLOTS + QUEUED}
"""


@dataclass(frozen=True)
class Bench:
    """A server and the keys to load it with."""

    server: RunningServer
    seconds: float

    def run(self, load: LoadShape, keys: Sequence[LoadKey], *, seed: int) -> Run:
        """Send one load; the first fifth of it is not counted."""
        plan = Plan(
            target=Target(f"{self.server.url}/v1", DEMO_MODEL, {}, timeout_s=120),
            keys=KeyRing(keys),
            content=SyntheticShape(
                input_tokens=Constant(100), output_tokens=Constant(OUTPUT_TOKENS)
            ),
            loads=(load,),
            extent=Extent(duration_s=self.seconds),
            warmup_s=self.seconds / 5,
            max_in_flight=10_000,
            seed=seed,
            targets=(TARGET,),
            tokens_per_word=2.0,
        )
        benchmark = Benchmark(plan, SystemClock(), lambda *_: nullcontext())
        asyncio.run(benchmark.run())
        return benchmark.runs[0]

    def good_per_second(self, run: Run) -> float:
        """Good answers that ended while load was offered, per second: in a steady state."""
        start_s, end_s = self.seconds / 5, self.seconds
        ends_s = [r.end_s for r in run.records if is_good(r, (TARGET,)) and r.end_s is not None]
        return sum(start_s <= moment_s < end_s for moment_s in ends_s) / (end_s - start_s)


class MemoryLog(threading.Thread):
    """The server's and its worker's resident memory, once a second."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self._is_over = threading.Event()
        self.rss_mib: list[float] = []

    def run(self) -> None:
        """Until it is over."""
        while not self._is_over.wait(1.0):
            self.rss_mib.append(sum(map(rss_mib, process_tree(self._pid))))

    def end(self) -> None:
        """Look no more."""
        self._is_over.set()
        self.join()


def process_tree(pid: int) -> list[int]:
    """Return a process and all that come from it."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    return [pid, *(below for child in children for below in process_tree(int(child)))]


def rss_mib(pid: int) -> float:
    """Return a process's resident memory."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096 / 2**20


@contextmanager
def bench_on(seconds: float, *, places: int) -> Iterator[Bench]:
    """Serve the fake engine; when all is done, its ledger must be right."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "stillhouse.toml"
        config.write_text(CONFIG.format(places=places), encoding="utf-8")
        with run_server(Path(folder) / "home", "--config", str(config)) as server:
            yield Bench(server, seconds)


def overload(seconds: float, factor: float) -> None:
    """Offer *factor* times the capacity."""
    with bench_on(seconds, places=SLOTS + QUEUED) as bench:
        keys = [LoadKey("main", bench.server.key)]
        full = bench.run(LoadShape(concurrency=SLOTS + QUEUED // 2), keys, seed=1)
        capacity = bench.good_per_second(full)
        memory = MemoryLog(bench.server.process.pid)
        memory.start()
        offered = LoadShape(rate=factor * capacity, arrivals="poisson")
        run = bench.run(offered, keys, seed=2)
        memory.end()
    by_design = SLOTS / (FIRST_TOKEN_S + (OUTPUT_TOKENS - 1) * TOKEN_INTERVAL_S)
    good = bench.good_per_second(run)
    summary, busy = run.summary, run.summary.failures.get("http_429")
    print("| overload | | aim |\n|---|---:|---:|")
    print(f"| slots' capacity by design, answers/s | {by_design:.1f} | |")
    print(f"| capacity measured, closed loop | {capacity:.1f} | |")
    print(f"| offered, open loop | {summary.offered_per_second:.1f} | |")
    print(f"| goodput (first token in {TARGET.at_most_s:g} s) | {good:.1f} | |")
    print(f"| share of the capacity | {good / capacity:.1%} | 90 % |")
    print(f"| first token p50 / p99, ms | {ms(summary.ttft.p50)} / {ms(summary.ttft.p99)} | |")
    if busy is not None:
        print(f"| 429 p50 / p99, ms | {ms(busy.latency.p50)} / {ms(busy.latency.p99)} | 50 |")
        print(f"| 429 with Retry-After | {busy.num_with_retry_after} of {busy.count} | all |")
    others = {kind: f.count for kind, f in summary.failures.items() if kind != "http_429"}
    print(f"| other failures | {others or 'none'} | none |")
    delay = summary.send_delay
    print(f"| the client's own delay in these, p50 / p99 | {ms(delay.p50)} / {ms(delay.p99)} | |")
    rss = memory.rss_mib
    print(f"| server and worker, MiB: start, end, most | {rss[0]:.0f}, {rss[-1]:.0f}, ", end="")
    print(f"{max(rss):.0f} | |")


def fairness(seconds: float) -> None:
    """One account at its share, the other at its share and then at ten times that."""
    rows = []
    with bench_on(seconds, places=2 * (SLOTS + QUEUED)) as bench:
        keys = [new_account(bench.server, name) for name in ("a", "b")]
        capacity = bench.good_per_second(
            bench.run(LoadShape(concurrency=SLOTS + QUEUED // 2), keys, seed=1)
        )
        share = 0.3 * capacity
        for times, seed in ((1, 2), (10, 3), (1, 4), (10, 5)):  # interleaved
            shares = [keys[0], replace(keys[1], share=times)]
            load = LoadShape(rate=share * (1 + times), arrivals="poisson")
            rows.append((times, bench.run(load, shares, seed=seed)))
    print("\n| b's load | a's TTFT p50 ms | p95 | p99 | a failed | b's TTFT p95 | b failed |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for times, run in rows:
        a, b = run.summary.by_key["a"], run.summary.by_key["b"]
        print(
            f"| {times}x | {ms(a.ttft.p50)} | {ms(a.ttft.p95)} | {ms(a.ttft.p99)} "
            f"| {a.num_requests - a.num_completed} of {a.num_requests} | {ms(b.ttft.p95)} "
            f"| {b.num_requests - b.num_completed} of {b.num_requests} |"
        )
    before, after = (
        max(run.summary.by_key["a"].ttft.p95 or 0.0 for n, run in rows if n == times)
        for times in (1, 10)
    )
    print(f"\na's p95 rose by {after / before - 1:.1%}; the aim is at most 25 %.")


def new_account(server: RunningServer, name: str) -> LoadKey:
    """Open an account with a key."""
    for arguments in (["accounts", "create", name], ["keys", "create", "main", "--account", name]):
        done = server.command(*arguments)
        if done.returncode:
            raise SystemExit(done.stderr)
    return LoadKey(name, done.stdout.strip())


def ms(value_s: float | None) -> str:
    """Return seconds as milliseconds."""
    return "–" if value_s is None else f"{1000 * value_s:.1f}"


def main() -> None:
    """Print a Markdown table for each part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="of each load")
    parser.add_argument("--factor", type=float, default=3)
    parser.add_argument("--only", choices=["overload", "fairness"])
    options = parser.parse_args()
    if options.only != "fairness":
        overload(options.seconds, options.factor)
    if options.only != "overload":
        fairness(options.seconds)


if __name__ == "__main__":
    main()
