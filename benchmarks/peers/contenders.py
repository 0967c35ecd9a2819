"""Runs the engines and services that are compared, each in processes of its own."""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import sys
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from benchmarks.peers.checkpoints import Forms
from benchmarks.peers.environments import python_of, version_of
from benchmarks.peers.http_client import Connection, Reply
from benchmarks.peers.processes import free_port, running, shown, tail, until_connected
from benchmarks.peers.timeline import Stream

HERE = Path(__file__).parent
MODEL = "benchmark/random"
KV_CACHE_MIB = 1024
KV_TOKENS = 32 * 1024
SLOT_TOKENS = 1280  # of a llama-server slot: the longest prompt and its answer
NUM_SLOTS = 16
TOP_P_ALONE = ["temperature", "top_p"]  # as stillhouse samples; nothing is cut before

STILLHOUSE_CONFIG = """\
[engine]
threads = {threads}
kv_cache_mib = {kv_cache_mib}
max_draft_tokens = 0

[models."{model}"]
checkpoint = "{checkpoint}"
family = "plain"
usd_per_million_tokens = {{ input = "0.20", output = "0.60" }}
"""


class EndedEarlyError(Exception):
    """A stream sampled the end token before it had all its tokens."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Streams that start at once."""

    prompts: list[list[int]]
    new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0


class Contender(Protocol):
    """An engine or service under measurement."""

    name: str
    version: str
    command: str
    config: str
    pid: int

    async def run(self, batch: Batch) -> list[Stream]:
        """
        Start all streams of *batch* at once and wait for all.

        Raises:
            EndedEarlyError: An answer is shorter than requested.

        """
        ...


class SteppedContender:
    """An engine without a service, in a child process that is driven through its pipes."""

    def __init__(
        self, name: str, version: str, command: str, process: asyncio.subprocess.Process
    ) -> None:
        self.name, self.version, self.command, self.config = name, version, command, ""
        self.pid = process.pid
        self._process = process

    async def run(self, batch: Batch) -> list[Stream]:
        """Start all streams of *batch* at once and wait for all."""
        assert self._process.stdin is not None
        line = {
            "prompts": batch.prompts,
            "new_tokens": batch.new_tokens,
            "temperature": batch.temperature,
            "top_p": batch.top_p,
        }
        self._process.stdin.write(json.dumps(line).encode() + b"\n")
        return [
            Stream(tuple(map(tuple, stream["arrivals"])), tuple(stream["first_tokens"]))
            for stream in await read_line(self._process)
        ]


class HttpContender(ABC):
    """A service that streams its answers; its subclasses know the API."""

    path: str

    def __init__(self, name: str, version: str, command: str, pid: int, port: int) -> None:
        self.name, self.version, self.command, self.pid = name, version, command, pid
        self.port = port
        self.key, self.config = "", ""

    @abstractmethod
    def body(self, prompt: list[int], batch: Batch) -> dict[str, Any]:
        """Return the request for one stream."""

    @abstractmethod
    def stream(self, reply: Reply) -> Stream:
        """Return the token times of *reply*."""

    async def run(self, batch: Batch) -> list[Stream]:
        """Start all streams of *batch* at once and wait for all."""
        connections = [await Connection.open(self.port) for _ in batch.prompts]
        bodies = [json.dumps(self.body(prompt, batch)).encode() for prompt in batch.prompts]
        replies = await asyncio.gather(
            *(
                connection.post(self.path, body, key=self.key)
                for connection, body in zip(connections, bodies, strict=True)
            )
        )
        streams = [self.stream(reply) for reply in replies]
        for connection in connections:
            await connection.close()
        if any(round(stream.num_tokens) != batch.new_tokens for stream in streams):
            raise EndedEarlyError(f"{self.name}: {[stream.num_tokens for stream in streams]}")
        return streams


class StillhouseService(HttpContender):
    """The whole service: ``stillhouse serve`` with keys, holds, a ledger and metrics."""

    path = "/v1/openai/completions"

    def body(self, prompt: list[int], batch: Batch) -> dict[str, Any]:
        """Return the request for one stream."""
        return {
            "model": MODEL,
            "prompt": prompt,
            "max_tokens": batch.new_tokens,
            "temperature": batch.temperature,
            "top_p": batch.top_p,
            "stream": True,
        }

    def stream(self, reply: Reply) -> Stream:
        """Return the times of the tokens that were charged."""
        events = reply.events()
        times = [time_s - reply.sent_s for time_s, event in events if event["choices"][0]["text"]]
        return spread(events[-1][1]["usage"]["completion_tokens"], times)


class LlamaServer(HttpContender):
    """llama.cpp's server."""

    path = "/completion"

    def body(self, prompt: list[int], batch: Batch) -> dict[str, Any]:
        """Return the request for one stream."""
        return {
            "prompt": prompt,
            "n_predict": batch.new_tokens,
            "temperature": batch.temperature,
            "top_p": batch.top_p,
            "samplers": TOP_P_ALONE if batch.temperature > 0 else ["temperature"],
            "ignore_eos": True,
            "cache_prompt": False,
            "return_tokens": True,
            "stream": True,
        }

    def stream(self, reply: Reply) -> Stream:
        """Return the times of the tokens that the server counted."""
        events = reply.events()
        times = [time_s - reply.sent_s for time_s, event in events if event["tokens"]]
        return spread(events[-1][1]["tokens_predicted"], times, events[0][1]["tokens"])


def spread(num_tokens: int, times: list[float], tokens: Sequence[int] = ()) -> Stream:
    """
    Return a stream of *num_tokens*, whose texts came at *times*.

    Every server holds back a byte that is not yet a character, so that a few texts stand for two
    tokens: the tokens are spread evenly over the texts.
    """
    return Stream(tuple((time_s, num_tokens / len(times)) for time_s in times), tuple(tokens[:1]))


@dataclass(frozen=True, slots=True)
class Setting:
    """The settings that all contenders share."""

    forms: Forms
    num_threads: int
    environments: Path
    folder: Path


async def read_line(process: asyncio.subprocess.Process) -> Any:
    """Return one line of JSON that *process* wrote."""
    assert process.stdout is not None
    line = await process.stdout.readline()
    if not line:
        raise SystemExit(f"Process {process.pid} ended; its log says why.")
    return json.loads(line)


@asynccontextmanager
async def stillhouse_service(setting: Setting) -> AsyncIterator[StillhouseService]:
    """Start ``stillhouse serve`` with a home of its own that has the packed weights."""
    config = STILLHOUSE_CONFIG.format(
        threads=setting.num_threads,
        kv_cache_mib=KV_CACHE_MIB,
        model=MODEL,
        checkpoint=setting.forms.checkpoint,
    )
    setting.forms.cache.mkdir(exist_ok=True)
    home = setting.folder / "home"
    home.mkdir()
    (home / "weights").symlink_to(setting.forms.cache, target_is_directory=True)
    async with serving_stillhouse(config, setting.folder, home, name="stillhouse serve") as service:
        yield service


@asynccontextmanager
async def serving_stillhouse(
    config: str, folder: Path, home: Path, *, name: str
) -> AsyncIterator[StillhouseService]:
    """Start ``stillhouse serve`` with *config*."""
    file, log, port = folder / f"{home.name}.toml", folder / f"{home.name}.log", free_port()
    file.write_text(config)
    command = [sys.executable, "-m", "stillhouse", "serve", "--config", str(file)]
    command += ["--port", str(port)]
    environment = {"STILLHOUSE_HOME": str(home), "NO_COLOR": "1"}
    async with running(command, log=log, environment=environment) as process:
        await until_connected(process, port, log)
        while '"messages"' not in log.read_text():  # the last line of the banner: engines are ready
            if process.returncode is not None:
                raise SystemExit(tail(log))
            await asyncio.sleep(0.1)
        version = importlib.metadata.version("stillhouse")
        service = StillhouseService(name, version, shown(command), process.pid, port)
        service.config = config
        service.key = (home / "key").read_text().strip()
        yield service


@asynccontextmanager
async def stillhouse_engine(setting: Setting) -> AsyncIterator[SteppedContender]:
    """Start the embedded engine alone."""
    forms = setting.forms
    command = [sys.executable, "-m", "benchmarks.peers.stillhouse_worker", str(forms.checkpoint)]
    command += [str(forms.cache), str(setting.num_threads), str(KV_CACHE_MIB)]
    version = importlib.metadata.version("stillhouse")
    async with stepped(setting, "stillhouse engine", version, command) as contender:
        yield contender


@asynccontextmanager
async def openvino_genai(setting: Setting) -> AsyncIterator[SteppedContender]:
    """Start openvino-genai's pipeline."""
    python = python_of("openvino-genai", setting.environments)
    command = [str(python), "-m", "benchmarks.peers.genai_worker", str(setting.forms.ir)]
    command += [str(setting.num_threads), str(KV_TOKENS)]
    version = version_of("openvino-genai", "openvino-genai")
    async with stepped(setting, "openvino-genai", version, command) as contender:
        yield contender


@asynccontextmanager
async def stepped(
    setting: Setting, name: str, version: str, command: list[str]
) -> AsyncIterator[SteppedContender]:
    """Start a worker and wait until it is ready."""
    log = setting.folder / f"{name.replace(' ', '-')}.log"
    async with running(command, log=log) as process:
        try:
            await read_line(process)
        except SystemExit:
            raise SystemExit(tail(log)) from None
        yield SteppedContender(name, version, shown(command), process)


@asynccontextmanager
async def llama_server(
    setting: Setting, options: tuple[str, ...] = ()
) -> AsyncIterator[LlamaServer]:
    """Start llama.cpp's server; no setting of tune_llama_server.py beat its defaults."""
    python = python_of("llama-server", setting.environments)
    port, log = free_port(), setting.folder / "llama-server.log"
    command = [str(python), str(HERE / "llama_server.py"), "--model", str(setting.forms.gguf)]
    command += ["--port", str(port), "--threads", str(setting.num_threads)]
    command += ["--parallel", str(NUM_SLOTS), "--ctx-size", str(NUM_SLOTS * SLOT_TOKENS)]
    command += options
    version = "xllamacpp " + version_of("llama-server", "xllamacpp")
    async with running(command, log=log) as process:
        await until_connected(process, port, log)
        assert process.stdout is not None
        while b"ready" not in (line := await process.stdout.readline()):
            if not line:
                raise SystemExit(tail(log))
        yield LlamaServer("llama-server", version, shown(command), process.pid, port)
