"""
Measures a server under overload, and the fairness between a heavy account and a light one.

The real server runs the fake engine, whose capacity is known: its slots and the time per answer.
Loads are open loops with Poisson arrivals, sent from this process.

    python -m benchmarks.overload                       # three times the capacity, then fairness
    python -m benchmarks.overload --seconds 60 --only overload
    python -m benchmarks.overload --seconds 120 --only fairness

Overload: a closed loop that keeps every slot busy measures the capacity, then three times that is
offered. Fairness: two accounts offer three tenths of the capacity each, then one of them offers ten
times that; the other account's times to first token are compared before and after, in pairs.

A running request keeps its slot, so a request that meets a full engine waits for the next free
slot, on average an answer's time divided by the slots. The comparison shows fairness only if that
wait is small beside the time to first token. Fairness therefore has more slots, longer prompts and
fewer answers per second than overload, and the processor, which client and server share, is not
the bottleneck. Answers of one length would end in bursts, unlike real ones: lengths are uniform
from half their mean to one and a half.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from tests.e2e.running_server import RunningServer, run_server

from stillhouse.catalogue.demo_models import DEMO_MODEL
from stillhouse.clock import SystemClock
from stillhouse_loadgen.benchmark import Benchmark, Plan
from stillhouse_loadgen.client.chat_client import Target
from stillhouse_loadgen.client.load_key import KeyRing, LoadKey
from stillhouse_loadgen.report.document import LoadShape, Run
from stillhouse_loadgen.report.goodput import GoodputTarget, is_good
from stillhouse_loadgen.workload.distributions import Constant, Distribution, Uniform
from stillhouse_loadgen.workload.workload import Extent, SyntheticShape


@dataclass(frozen=True)
class Work:
    """
    The engine's settings, and the requests it gets.

    Args:
        queued: The length of the request queue, some seconds' work.

    """

    slots: int
    queued: int
    first_token_s: float
    token_interval_s: float
    output_tokens: Distribution
    mean_tokens: int

    @property
    def places(self) -> int:
        """Waiting and at the engine."""
        return self.slots + self.queued

    @property
    def answers_per_second(self) -> float:
        """The capacity of the slots."""
        answer_s = self.first_token_s + (self.mean_tokens - 1) * self.token_interval_s
        return self.slots / answer_s


OVERLOAD = Work(32, 48, 0.3, 0.02, Constant(20), 20)
FAIRNESS = Work(64, 48, 1.5, 0.1, Uniform(8, 24), 16)
#: One second in the queue, plus the prompt.
TARGET = GoodputTarget("ttft", 2.0)
CONFIG = """
[queue]
max_outstanding = {work.places}
[models."{model}"]
[engine]
kind = "fake"
[engine.fake]
slots = {work.slots}
first_token_s = {work.first_token_s}
token_interval_s = {work.token_interval_s}
[limits]
max_outstanding = {work.places}
"""


@dataclass(frozen=True)
class Bench:
    """A server and the API keys of the load."""

    server: RunningServer
    work: Work
    seconds: float

    def run(self, load: LoadShape, keys: Sequence[LoadKey], *, seed: int) -> Run:
        """Send one load; the first fifth is warm-up."""
        plan = Plan(
            target=Target(f"{self.server.url}/v1", DEMO_MODEL, {}, timeout_s=120),
            keys=KeyRing(keys),
            content=SyntheticShape(
                input_tokens=Constant(100), output_tokens=self.work.output_tokens
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

    def capacity(self, keys: Sequence[LoadKey]) -> float:
        """Return complete answers per second when every slot is always busy."""
        concurrency = self.work.slots + self.work.queued // 2
        return self.ends_per_second(self.run(LoadShape(concurrency=concurrency), keys, seed=1))

    def ends_per_second(self, run: Run, targets: Sequence[GoodputTarget] = ()) -> float:
        """Return the rate of answers within *targets* that ended while load was offered."""
        start_s, end_s = self.seconds / 5, self.seconds
        ends_s = [r.end_s for r in run.records if is_good(r, targets) and r.end_s is not None]
        return sum(start_s <= moment_s < end_s for moment_s in ends_s) / (end_s - start_s)


class MemoryLog(threading.Thread):
    """Samples the resident memory of the server and its worker once a second."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self._is_over = threading.Event()
        self.rss_mib: list[float] = []

    def run(self) -> None:
        """Sample until `end` is called."""
        while not self._is_over.wait(1.0):
            self.rss_mib.append(sum(map(rss_mib, process_tree(self._pid))))

    def end(self) -> None:
        """Stop sampling."""
        self._is_over.set()
        self.join()


def process_tree(pid: int) -> list[int]:
    """Return a process and all its descendants."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    return [pid, *(below for child in children for below in process_tree(int(child)))]


def rss_mib(pid: int) -> float:
    """Return a process's resident memory."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096 / 2**20


@contextmanager
def bench_on(work: Work, seconds: float) -> Iterator[Bench]:
    """Serve the fake engine; at the end, the ledger must be consistent."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "stillhouse.toml"
        config.write_text(CONFIG.format(work=work, model=DEMO_MODEL), encoding="utf-8")
        with run_server(Path(folder) / "home", "--config", str(config)) as server:
            yield Bench(server, work, seconds)


def overload(seconds: float, factor: float) -> None:
    """Offer *factor* times the capacity."""
    with bench_on(OVERLOAD, seconds) as bench:
        keys = [LoadKey("main", bench.server.key)]
        capacity = bench.capacity(keys)
        memory = MemoryLog(bench.server.process.pid)
        memory.start()
        offered = LoadShape(rate=factor * capacity, arrivals="poisson")
        run = bench.run(offered, keys, seed=2)
        memory.end()
    good = bench.ends_per_second(run, (TARGET,))
    summary, busy = run.summary, run.summary.failures.get("http_429")
    print("| overload | | aim |\n|---|---:|---:|")
    print(f"| slots' capacity by design, answers/s | {OVERLOAD.answers_per_second:.1f} | |")
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


def fairness(seconds: float, pairs: int) -> None:
    """Load one account at its share, and the other at its share and then at ten times that."""
    rows = []
    with bench_on(FAIRNESS, seconds) as bench:
        keys = [new_account(bench.server, name) for name in ("a", "b")]
        capacity = bench.capacity(keys)
        share = 0.3 * capacity
        for seed in range(2, 2 + 2 * pairs):
            times = 1 if seed % 2 == 0 else 10
            shares = [keys[0], replace(keys[1], share=times)]
            load = LoadShape(rate=share * (1 + times), arrivals="poisson")
            rows.append((times, bench.run(load, shares, seed=seed)))
    print(f"\nCapacity: {capacity:.1f} answers/s measured in a closed loop, ", end="")
    print(f"{FAIRNESS.answers_per_second:.1f} by design; a offers {share:.1f}/s.\n")
    print("| b's load | a's TTFT p50 ms | p95 | p99 | a failed ", end="")
    print("| the client's own delay of a, p95 | b's TTFT p95 | b failed |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for times, run in rows:
        a, b = run.summary.by_key["a"], run.summary.by_key["b"]
        print(
            f"| {times}x | {ms(a.ttft.p50)} | {ms(a.ttft.p95)} | {ms(a.ttft.p99)} "
            f"| {a.num_requests - a.num_completed} of {a.num_requests} "
            f"| {ms(a.send_delay.p95)} | {ms(b.ttft.p95)} "
            f"| {b.num_requests - b.num_completed} of {b.num_requests} |"
        )
    p95s = [run.summary.by_key["a"].ttft.p95 or 0.0 for _, run in rows]
    rises = [after / before - 1 for before, after in zip(p95s[::2], p95s[1::2], strict=True)]
    print(f"\na's p95 rose by {median(rises):.1%}, the median of {len(rises)} pairs, ", end="")
    print(f"{min(rises):.1%} to {max(rises):.1%}; the aim is at most 25 %.")


def new_account(server: RunningServer, name: str) -> LoadKey:
    """Create an account with a key."""
    secret = ""
    for arguments in (["accounts", "create", name], ["keys", "create", "main", "--account", name]):
        done = server.command(*arguments)
        if done.returncode:
            raise SystemExit(done.stderr)
        secret = done.stdout.strip()
    return LoadKey(name, secret)


def ms(value_s: float | None) -> str:
    """Return seconds as milliseconds."""
    return "–" if value_s is None else f"{1000 * value_s:.1f}"


def main() -> None:
    """Print a Markdown table for each part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="of each load")
    parser.add_argument("--factor", type=float, default=3)
    parser.add_argument("--pairs", type=int, default=3, help="of loads, for fairness")
    parser.add_argument("--only", choices=["overload", "fairness"])
    options = parser.parse_args()
    if options.only != "fairness":
        overload(options.seconds, options.factor)
    if options.only != "overload":
        fairness(options.seconds, options.pairs)


if __name__ == "__main__":
    main()
