"""
Measures leaks of memory, files and threads under a mixed load, sampled every few seconds.

The real server runs the fake engine, or the demo models. The load mixes chats of several turns,
streams whose clients disconnect, bodies that are refused, questions with tools (demo models only),
and three keys of two accounts.

    python -m benchmarks.soak --minutes 30                   # the fake engine
    python -m benchmarks.soak --minutes 30 --engine demo     # real models, tools too

Slopes are Theil-Sen estimates after the warm-up, a fifth of the time: the median of the slopes
between all pairs of samples, which is robust to a few steps. The ledger is verified at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
from tests.e2e.running_server import RunningServer, run_server

from benchmarks.overload import new_account, process_tree, rss_mib
from stillhouse.catalogue.demo_models import DEMO_MODEL, DEMO_TOOLS_MODEL
from stillhouse.clock import SystemClock
from stillhouse_loadgen.benchmark import Benchmark, Plan
from stillhouse_loadgen.client.chat_client import Target
from stillhouse_loadgen.client.load_key import KeyRing, LoadKey
from stillhouse_loadgen.report.document import LoadShape
from stillhouse_loadgen.workload.distributions import Constant, Uniform
from stillhouse_loadgen.workload.workload import Extent, SyntheticShape

CHAT = "/v1/chat/completions"
FAKE = f"""
[models."{DEMO_MODEL}"]
[engine]
kind = "fake"
[engine.fake]
slots = 32
first_token_s = 0.02
token_interval_s = 0.005
"""
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
MIB_PER_HOUR, ROWS = 3600, ("gateway", "workers")


@dataclass(frozen=True)
class Sample:
    """The resources in use at a moment: the gateway's, then its children's together."""

    at_s: float
    rss_mib: tuple[float, float]
    num_fds: tuple[int, int]
    num_threads: tuple[int, int]

    @classmethod
    def of(cls, pid: int, at_s: float) -> Sample:
        """Sample a server and its descendants."""
        gateway, *workers = process_tree(pid)
        fds, threads = (
            [len(list(Path(f"/proc/{p}/{kind}").iterdir())) for p in (gateway, *workers)]
            for kind in ("fd", "task")
        )
        rss = [rss_mib(p) for p in (gateway, *workers)]
        return cls(
            at_s, (rss[0], sum(rss[1:])), (fds[0], sum(fds[1:])), (threads[0], sum(threads[1:]))
        )


class Disturbance:
    """Sends requests that misbehave or are unusual, one after the other."""

    def __init__(self, server: RunningServer, key: LoadKey, *, has_tools: bool) -> None:
        self._url = server.url + CHAT
        self._headers = {"Authorization": f"Bearer {key.secret}"}
        self._kinds = [self._leave, self._be_refused, self._be_nobody]
        self._kinds += [self._use_tools] * has_tools
        self.counts: Counter[str] = Counter()

    async def run(self) -> None:
        """Send requests until cancelled."""
        rng = random.Random(0)  # noqa: S311  (no secret)
        async with httpx.AsyncClient(headers=self._headers, timeout=120) as client:
            while True:
                kind = rng.choice(self._kinds)
                with suppress(httpx.TransportError):
                    await kind(client, rng)
                self.counts[kind.__name__.strip("_")] += 1
                await asyncio.sleep(rng.expovariate(5))

    async def _leave(self, client: httpx.AsyncClient, rng: random.Random) -> None:
        body = _body(DEMO_MODEL, "Tell me everything!", max_tokens=500, stream=True)
        async with client.stream("POST", self._url, json=body) as response:
            num_left = rng.randrange(30)
            async for _ in response.aiter_lines():
                num_left -= 1
                if num_left < 0:
                    return

    async def _be_refused(self, client: httpx.AsyncClient, rng: random.Random) -> None:
        bodies = [
            _body("no/model", "Hello!"),
            _body(DEMO_MODEL, "Hello!", temperature=9),
            _body(DEMO_MODEL, "word " * 20_000),
        ]
        await client.post(self._url, json=rng.choice(bodies))

    async def _be_nobody(self, client: httpx.AsyncClient, _rng: random.Random) -> None:
        headers = {"Authorization": "Bearer sh_nobody"}
        await client.post(self._url, json=_body(DEMO_MODEL, "Hello!"), headers=headers)

    async def _use_tools(self, client: httpx.AsyncClient, _rng: random.Random) -> None:
        question = "What is the weather in Paris?"
        await client.post(self._url, json=_body(DEMO_TOOLS_MODEL, question, tools=[WEATHER]))


def _body(model: str, question: str, **fields: object) -> dict[str, object]:
    return {"model": model, "messages": [{"role": "user", "content": question}], **fields}


async def soak(
    server: RunningServer, *, minutes: float, rate: float, has_tools: bool
) -> list[Sample]:
    """Load a server for a time, and return the samples."""
    keys = [LoadKey("main", server.key, 2), new_account(server, "second")]
    plan = Plan(
        target=Target(f"{server.url}/v1", DEMO_MODEL, {}, timeout_s=120),
        keys=KeyRing(keys),
        content=SyntheticShape(
            input_tokens=Uniform(10, 200),
            output_tokens=Uniform(1, 60),
            turns=Uniform(1, 4),
            think_s=Constant(0.2),
            num_prefixes=4,
            prefix_tokens=100,
            prefix_share=0.5,
        ),
        loads=(LoadShape(rate=rate, arrivals="poisson"),),
        extent=Extent(duration_s=60 * minutes),
        warmup_s=0,
        max_in_flight=1000,
        seed=0,
        targets=(),
        tokens_per_word=2.0,
    )
    benchmark = Benchmark(plan, SystemClock(), lambda *_: nullcontext())
    disturbance = Disturbance(server, keys[1], has_tools=has_tools)
    samples: list[Sample] = []
    others = [
        asyncio.create_task(disturbance.run()),
        asyncio.create_task(_watch(server.process.pid, samples, interval_s=minutes / 6)),
    ]
    await benchmark.run()
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    summary = benchmark.runs[0].summary
    failures = {kind: failure.count for kind, failure in summary.failures.items()}
    print(f"{summary.num_completed} of {summary.num_requests} answered; failures: {failures}")
    print(f"beside them: {dict(disturbance.counts)}")
    return samples


async def _watch(pid: int, samples: list[Sample], *, interval_s: float) -> None:
    start_s = time.monotonic()
    while True:
        with suppress(FileNotFoundError, ProcessLookupError):  # a child has exited
            samples.append(Sample.of(pid, time.monotonic() - start_s))
        await asyncio.sleep(interval_s)


def slope(times_s: np.ndarray, values: np.ndarray) -> float:
    """Return Theil-Sen's slope per second."""
    first, second = np.triu_indices(len(times_s), k=1)
    return float(np.median((values[second] - values[first]) / (times_s[second] - times_s[first])))


def print_slopes(samples: list[Sample]) -> None:
    """Print a Markdown table."""
    late = samples[len(samples) // 5 :]
    times_s = np.array([sample.at_s for sample in late])
    print("\n| | RSS MiB first, last, most | MiB/h | fds first, last, most | threads |")
    print("|---|---:|---:|---:|---:|")
    for place, name in enumerate(ROWS):
        rss = np.array([sample.rss_mib[place] for sample in late])
        fds = [sample.num_fds[place] for sample in late]
        threads = [sample.num_threads[place] for sample in late]
        print(
            f"| {name} | {rss[0]:.1f}, {rss[-1]:.1f}, {rss.max():.1f} "
            f"| {slope(times_s, rss) * MIB_PER_HOUR:.2f} | {fds[0]}, {fds[-1]}, {max(fds)} "
            f"| {threads[0]}, {threads[-1]}, {max(threads)} |"
        )


@contextmanager
def served(engine: str) -> Iterator[RunningServer]:
    """Run a server; its ledger is verified at the end."""
    with tempfile.TemporaryDirectory() as folder:
        options = []
        if engine == "fake":
            config = Path(folder) / "stillhouse.toml"
            config.write_text(FAKE, encoding="utf-8")
            options = ["--config", str(config)]
        with run_server(Path(folder) / "home", *options) as server:
            yield server


def main() -> None:
    """Run the load, and print what grew."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--rate", type=float, help="conversations/s; 8, or 2 on the demo models")
    parser.add_argument("--engine", choices=["fake", "demo"], default="fake")
    options = parser.parse_args()
    is_demo = options.engine == "demo"
    with served(options.engine) as server:
        rate = options.rate or (2.0 if is_demo else 8.0)
        samples = asyncio.run(soak(server, minutes=options.minutes, rate=rate, has_tools=is_demo))
    print_slopes(samples)
    print("\nThe ledger was verified: nothing in it contradicts itself.")


if __name__ == "__main__":
    main()
