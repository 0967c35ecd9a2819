"""
Measures the service's overhead: tokens per second, time to first token, milliseconds per request.

The real server, called over HTTP, is compared with the same engine called directly, in one
interleaved run. Streams run on random weights in the shape of Llama-3.2-1B; short requests on the
demo model, whose steps are short enough to show the overhead.

    python -m benchmarks.service --rounds 5
    python -m benchmarks.service --rounds 5 --model demo
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import uvloop

from benchmarks.checkpoints.chat_tokenizer import add_tokenizer
from benchmarks.checkpoints.random_weights import make_checkpoint
from stillhouse.catalogue.catalogue import Catalogue
from stillhouse.catalogue.chat_models import load_chat_model
from stillhouse.catalogue.demo_models import DEMO_MODEL
from stillhouse.engines.base import GenerateRequest, TokenEngine
from stillhouse.engines.openvino.engine import openvino_engine
from stillhouse.engines.openvino.settings import EngineSettings
from stillhouse.text.chat_model import ChatModel
from stillhouse.types.messages import Message, Role
from stillhouse.types.requests import ChatRequest
from stillhouse.types.sampling import SamplingParams

MODEL_1B = "benchmark/random-1b"
CHECKPOINT = Path(tempfile.gettempdir()) / "stillhouse-benchmark" / "chat-1b"
CONFIG_1B = """
[models."benchmark/random-1b"]
checkpoint = "{checkpoint}"
family = "plain"
temperature = 0
usd_per_million_tokens = {{ input = "0.20", output = "0.60" }}
"""


@dataclass(frozen=True)
class Timing:
    """The client's measurements of one request."""

    first_token_s: float
    total_s: float
    num_tokens: int


@dataclass(frozen=True)
class Sides:
    """The same model behind HTTP and as an engine alone."""

    url: str
    key: str
    model: str
    chat: ChatModel
    engine: TokenEngine

    async def over_http(self, prompt: str, max_tokens: int) -> Timing:
        """Send the request to the server, on its own connection, with a minimal client."""
        host, port = self.url.removeprefix("http://").split(":")
        body = json.dumps(
            {
                "model": self.model,
                "messages": [{"role": "user", "content": prompt}],
                "stream": True,
                "max_tokens": max_tokens,
                "temperature": 0,
            }
        ).encode()
        started_s = time.perf_counter()
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            f"POST /v1/openai/chat/completions HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
            f"Authorization: Bearer {self.key}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        first_s, last = 0.0, b""
        while chunk := await reader.read(1 << 16):
            if not first_s and b"data: " in chunk:
                first_s = time.perf_counter() - started_s
            last = (last + chunk)[-2000:]
        writer.close()
        assert b"[DONE]" in last, last
        counted = re.search(rb'"completion_tokens": (\d+)', last)
        assert counted
        return Timing(first_s, time.perf_counter() - started_s, int(counted[1]))

    async def bare(self, prompt: str, max_tokens: int) -> Timing:
        """Send the request to the engine directly."""
        started_s = time.perf_counter()
        first_s, num_tokens = 0.0, 0
        asked = ChatRequest(self.model, (Message(Role.USER, prompt),))
        request = GenerateRequest(
            request_id=os.urandom(8).hex(),
            prompt_token_ids=self.chat.encode_prompt(asked).token_ids,
            max_tokens=max_tokens,
            sampling=SamplingParams(temperature=0),
            stop_token_ids=self.chat.stop_token_ids,
        )
        async for step in self.engine.generate(request):
            first_s = first_s or time.perf_counter() - started_s
            num_tokens = step.usage.completion_tokens
        return Timing(first_s, time.perf_counter() - started_s, num_tokens)


class Ask(Protocol):
    """Sends a request: `Sides.over_http` or `Sides.bare`."""

    __name__: str

    def __call__(self, prompt: str, max_tokens: int) -> Awaitable[Timing]:
        """Generate *max_tokens* tokens."""
        ...


async def main() -> None:
    """Print one Markdown table per measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", choices=["1b", "demo"], default="1b")
    parser.add_argument("--tokens", type=int, default=64)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        async with both_sides(options.model, Path(folder)) as sides:
            if options.model == "1b":
                await compare_streams(sides, rounds=options.rounds, num_tokens=options.tokens)
            else:
                await compare_requests(sides, rounds=options.rounds)


async def compare_streams(sides: Sides, *, rounds: int, num_tokens: int) -> None:
    """Compare tokens per second of all streams together, and times to first token."""
    print("| streams | HTTP tok/s | bare tok/s | ratio | HTTP TTFT s | bare TTFT s | ratio |")
    print("|---|---|---|---|---|---|---|")
    for num_streams in (1, 4, 8):
        http: list[list[Timing]] = []
        bare: list[list[Timing]] = []
        for round_ in range(rounds):
            for ask, timings in ((sides.over_http, http), (sides.bare, bare)):
                # Every prompt is new, so that none is cached.
                salt = f"{num_streams} {round_} {ask.__name__}"
                prompts = [prompt_text(128, f"{salt} {number}") for number in range(num_streams)]
                timings.append(await asyncio.gather(*(ask(p, num_tokens) for p in prompts)))
        rates = [statistics.median(rate(batch) for batch in side) for side in (http, bare)]
        firsts = [
            statistics.median(t.first_token_s for batch in side for t in batch)
            for side in (http, bare)
        ]
        print(
            f"| {num_streams} | {rates[0]:.1f} | {rates[1]:.1f} | {rates[0] / rates[1]:.3f} "
            f"| {firsts[0]:.3f} | {firsts[1]:.3f} | {firsts[1] / firsts[0]:.3f} |"
        )


async def compare_requests(sides: Sides, *, rounds: int) -> None:
    """Compare the milliseconds of a short request, at 1 and at 64 clients."""
    print("\n| clients | HTTP ms | bare ms | added ms | HTTP requests/s |")
    print("|---|---|---|---|---|")
    for num_clients in (1, 64):
        http: list[float] = []
        bare: list[float] = []
        rates = []
        for round_ in range(rounds):
            for ask, totals in ((sides.over_http, http), (sides.bare, bare)):
                started_s = time.perf_counter()
                batch = await asyncio.gather(
                    *(client(ask, totals, f"{round_} {i}") for i in range(num_clients))
                )
                if totals is http:
                    rates.append(sum(batch) / (time.perf_counter() - started_s))
        http_ms, bare_ms = statistics.median(http) * 1000, statistics.median(bare) * 1000
        print(
            f"| {num_clients} | {http_ms:.2f} | {bare_ms:.2f} | {http_ms - bare_ms:.2f} "
            f"| {statistics.median(rates):.0f} |"
        )


async def client(ask: Ask, totals: list[float], salt: str, num_requests: int = 8) -> int:
    """Send one short question after the other; return their number."""
    for number in range(num_requests):
        timing = await ask(f"Hello! {salt} {number}", 1)
        totals.append(timing.total_s)
    return num_requests


def rate(batch: list[Timing]) -> float:
    """Return tokens per second of generation, without each stream's prompt and first token."""
    decoding_s = max(t.total_s for t in batch) - min(t.first_token_s for t in batch)
    return sum(t.num_tokens - 1 for t in batch) / decoding_s


def prompt_text(count: int, salt: str) -> str:
    """Return a prompt of about *count* byte tokens whose start depends on *salt*."""
    return f"{salt}: " + "lamb " * (count // 5)


@asynccontextmanager
async def both_sides(model: str, folder: Path) -> AsyncIterator[Sides]:
    """Start the real server and, with the same settings, an engine alone."""
    options: list[str] = []
    catalogue, model_id = Catalogue.load({DEMO_MODEL: {}}), DEMO_MODEL
    if model == "1b":
        make_checkpoint(CHECKPOINT, "1b")
        add_tokenizer(CHECKPOINT)
        config = folder / "stillhouse.toml"
        config.write_text(CONFIG_1B.format(checkpoint=CHECKPOINT))
        options, model_id = ["--config", str(config)], MODEL_1B
        catalogue = Catalogue.load(
            {MODEL_1B: tomllib.loads(config.read_text())["models"][MODEL_1B]}
        )
    spec = next(spec for spec in catalogue.specs if spec.id == model_id)
    chat = load_chat_model(spec)
    cache_dir = folder / "home" / "weights"
    settings = EngineSettings(
        checkpoint_dir=chat.checkpoint_path, cache_dir=cache_dir, context_length=chat.context_length
    )
    engine = openvino_engine(settings)
    await engine.start()
    url, process = start_server(folder, options)
    try:
        key = (folder / "home" / "key").read_text().strip()
        yield Sides(url, key, model_id, chat, engine)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()
        await engine.stop()


def start_server(folder: Path, options: list[str]) -> tuple[str, subprocess.Popen[bytes]]:
    """Start the server on a free port; return its address when it serves."""
    log = folder / "server.log"
    process = subprocess.Popen(
        [sys.executable, "-m", "stillhouse", "serve", "--port", "0", *options],
        env=os.environ | {"STILLHOUSE_HOME": str(folder / "home"), "NO_COLOR": "1"},
        stderr=log.open("w"),
    )
    while '"messages"' not in log.read_text():
        if process.poll() is not None:
            raise SystemExit(log.read_text())
        time.sleep(0.05)
    return log.read_text().split(" on ")[1].split()[0], process


if __name__ == "__main__":
    uvloop.run(main())  # as the server itself runs
