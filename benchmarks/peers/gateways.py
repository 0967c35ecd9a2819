"""
Compares gateways: stillhouse and LiteLLM's proxy, in front of backends that take no time.

stillhouse's backend is its fake engine, in a process of its own; LiteLLM's is an upstream with a
fixed answer (null_upstream.py), which is also measured directly. The gateway has one core, and its
backend shares another with the client. stillhouse checks a key in its database, holds and settles
each request durably in its ledger, and counts metrics; LiteLLM has one worker, its documented
settings for speed, one master key, and neither database nor budgets nor a ledger.

llama-server is not a gateway, but serves HTTP, too: on a tiny model, the time that it reports for
its engine is subtracted from each answer.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.contenders import Setting, llama_server, serving_stillhouse
from benchmarks.peers.environments import python_of, version_of
from benchmarks.peers.http_client import Connection
from benchmarks.peers.processes import free_port, pin, running, shown, until_connected
from benchmarks.peers.report import LITELLM, LLAMA_TINY, STILLHOUSE, UPSTREAM
from benchmarks.peers.results import Measured, Results
from stillhouse.catalogue.demo_models import DEMO_MODEL

HERE = Path(__file__).parent
GATEWAY_CORE, OTHER_CORE = 0, 1
STREAM_TOKENS = 64
LITELLM_KEY = "sk-benchmark"
LITELLM_MODEL = "instant"

FAKE_CONFIG = f"""\
[models."{DEMO_MODEL}"]

[engine]
kind = "fake"
"""
# The settings that LiteLLM's pages on production and benchmarks recommend. Of its providers for
# such an upstream, hosted_vllm was the fastest that streams, and Granian was faster than uvicorn.
LITELLM_CONFIG = """\
model_list:
  - model_name: {model}
    litellm_params:
      model: hosted_vllm/{model}
      api_base: http://127.0.0.1:{port}/v1
      api_key: none
litellm_settings:
  callbacks: []
  num_retries: 0
  request_timeout: 600
  set_verbose: false
  telemetry: false
general_settings:
  master_key: {key}
  disable_spend_logs: true
  disable_error_logs: true
"""
LITELLM_ENVIRONMENT = {
    "LITELLM_MODE": "PRODUCTION",
    "LITELLM_LOG": "ERROR",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_TELEMETRY": "False",
}


@dataclass(frozen=True, slots=True)
class Load:
    """A closed loop of clients, each on a keep-alive connection."""

    name: str
    num_clients: int
    max_tokens: int = 1
    is_stream: bool = False


LOADS = (
    Load("short requests, 1 client", 1),
    Load("short requests, 64 clients", 64),
    Load(f"streams of {STREAM_TOKENS} tokens, 64 clients", 64, STREAM_TOKENS, is_stream=True),
)


@dataclass(frozen=True, slots=True)
class Gateway:
    """
    A gateway under test.

    Args:
        tells_own_time: Its answers report the engine's time, which is subtracted.

    """

    name: str
    port: int
    path: str
    model: str
    key: str
    tells_own_time: bool = False

    def body(self, load: Load) -> bytes:
        """Return a request."""
        asked = {
            "model": self.model,
            "messages": [{"role": "user", "content": "Hello!"}],
            "max_tokens": load.max_tokens,
            "stream": load.is_stream,
        }
        return json.dumps(asked).encode()


async def measure_gateways(
    setting: Setting, results: Results, *, num_rounds: int, seconds: float
) -> None:
    """Measure every load on every gateway in every round, in rotating order."""
    async with AsyncExitStack() as stack:
        gateways = [
            await stack.enter_async_context(llama_server_alone(setting, results)),
            await stack.enter_async_context(stillhouse_on_fake_engine(setting, results)),
            *await stack.enter_async_context(litellm_and_upstream(setting, results)),
        ]
        pin(os.getpid(), OTHER_CORE)
        for gateway in gateways:
            await ask(gateway, LOADS[1], seconds / 2)  # warms up
        num_before = len(results.figures(LOADS[0].name, STILLHOUSE, "per_s"))
        for number in range(num_before, num_before + num_rounds):
            first = number % len(gateways)
            for load in LOADS:
                for gateway in gateways[first:] + gateways[:first]:
                    if not gateway.tells_own_time or load.num_clients == 1:
                        results.add(load.name, gateway.name, await ask(gateway, load, seconds))
            results.save()


async def ask(gateway: Gateway, load: Load, seconds: float) -> Measured:
    """Send requests for *seconds*; return the durations, and the number of answers (or tokens)."""
    connections = [await Connection.open(gateway.port) for _ in range(load.num_clients)]
    start_s = time.perf_counter()
    asked = [one_client(connection, gateway, load, start_s + seconds) for connection in connections]
    durations_s = [duration_s for client in await asyncio.gather(*asked) for duration_s in client]
    took_s = time.perf_counter() - start_s
    for connection in connections:
        await connection.close()
    cuts = statistics.quantiles(durations_s, n=100)
    return {
        "p50_ms": cuts[49] * 1000,
        "p99_ms": cuts[98] * 1000,
        "per_s": len(durations_s) * load.max_tokens / took_s,
    }


async def one_client(
    connection: Connection, gateway: Gateway, load: Load, end_s: float
) -> list[float]:
    """Send requests until *end_s*; return their durations, without the engine's reported time."""
    body, durations_s = gateway.body(load), []
    while time.perf_counter() < end_s:
        reply = await connection.post(gateway.path, body, key=gateway.key)
        duration_s = reply.duration_s
        if gateway.tells_own_time:
            timings = json.loads(reply.body)["timings"]
            duration_s -= (timings["prompt_ms"] + timings["predicted_ms"]) / 1000
        durations_s.append(duration_s)
    return durations_s


@asynccontextmanager
async def stillhouse_on_fake_engine(setting: Setting, results: Results) -> AsyncIterator[Gateway]:
    """Start ``stillhouse serve`` with an engine that takes no time."""
    home = setting.folder / "fake"
    name = STILLHOUSE
    async with serving_stillhouse(FAKE_CONFIG, setting.folder, home, name=name) as service:
        results.describe(name, service.version, service.command)
        pin(service.pid, GATEWAY_CORE, children_core=OTHER_CORE)
        yield Gateway(name, service.port, "/v1/openai/chat/completions", DEMO_MODEL, service.key)


@asynccontextmanager
async def litellm_and_upstream(
    setting: Setting, results: Results
) -> AsyncIterator[tuple[Gateway, Gateway]]:
    """Start LiteLLM's proxy and its upstream, which can be called directly, too."""
    upstream_port, port, log = free_port(), free_port(), setting.folder / "litellm.log"
    upstream_command = [sys.executable, str(HERE / "null_upstream.py"), str(upstream_port)]
    config = setting.folder / "litellm.yaml"
    config.write_text(
        LITELLM_CONFIG.format(model=LITELLM_MODEL, port=upstream_port, key=LITELLM_KEY)
    )
    python = python_of("litellm", setting.environments)
    command = [str(python.with_name("litellm")), "--config", str(config), "--port", str(port)]
    command += ["--host", "127.0.0.1", "--num_workers", "1", "--run_granian"]
    environment = LITELLM_ENVIRONMENT
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(
            running(upstream_command, log=setting.folder / "upstream.log")
        )
        proxy = await stack.enter_async_context(
            running(command, log=log, environment=environment, answers=False)
        )
        await until_connected(upstream, upstream_port, setting.folder / "upstream.log")
        await until_connected(proxy, port, log)
        pin(upstream.pid, OTHER_CORE)
        pin(proxy.pid, GATEWAY_CORE, children_core=GATEWAY_CORE)
        variables = " ".join(f"{key}={value}" for key, value in environment.items())
        version = version_of("litellm", "litellm")
        results.describe(LITELLM, version, f"{variables} {shown(command)}", config.read_text())
        results.describe(UPSTREAM, "", shown(upstream_command))
        path = "/v1/chat/completions"
        yield (
            Gateway(LITELLM, port, path, LITELLM_MODEL, LITELLM_KEY),
            Gateway(UPSTREAM, upstream_port, path, LITELLM_MODEL, LITELLM_KEY),
        )


@asynccontextmanager
async def llama_server_alone(setting: Setting, results: Results) -> AsyncIterator[Gateway]:
    """Start llama-server on a tiny model."""
    async with llama_server(setting) as server:
        name = LLAMA_TINY
        results.describe(name, server.version, server.command)
        yield Gateway(name, server.port, "/v1/chat/completions", "", "", tells_own_time=True)
