"""The load generator against a server that breaks: every failure has its name."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys

import pytest

from stillhouse.catalogue.demo_models import DEMO_MODEL
from stillhouse.clock import SystemClock
from stillhouse_loadgen.client.chat_client import Stopwatch, Target, open_client
from stillhouse_loadgen.client.load_key import LoadKey
from stillhouse_loadgen.record import RequestRecord, decode_json
from stillhouse_loadgen.report.document import Document
from tests.faults.fault_server import WAIT_S, FaultServer, assert_ledger_is_right, run_fault_server

CRASH_SEED = 7
ENGINE = f"""
token_interval_s = 0.02
[[engine.fake.faults]]
kind = "crash"
at_token = 3
seed = {CRASH_SEED}
[limits]
max_outstanding = 1
"""


def new_record(max_tokens):
    return RequestRecord(
        number=0, conversation=0, turn=0, key="main", max_tokens=max_tokens, intended_s=0.0
    )


async def ask(server, record, **extra):
    target = Target(f"{server.url}/v1", DEMO_MODEL, extra, timeout_s=60)
    key = LoadKey("main", (server.home / "key").read_text().strip())
    async with open_client(target) as client:
        messages = [{"role": "user", "content": "Hello!"}]
        await client.complete(record, messages, key, Stopwatch(SystemClock()))
    return record


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with run_fault_server(tmp_path_factory.mktemp("bench") / "home", ENGINE) as running:
        yield running


async def test_engine_dies_in_mid_stream(server):
    """The record keeps the tokens before the crash, and the server's error message."""
    record = await ask(server, new_record(8), seed=CRASH_SEED)
    await asyncio.to_thread(server.wait_until, server.is_ready)

    assert ("stream_error", 200) == (record.failure, record.status)
    assert record.first_token_s is not None
    assert record.message


async def test_too_much_at_once(server):
    """The second request is refused with a Retry-After."""
    first = new_record(100)
    asking = asyncio.create_task(ask(server, first))
    await asyncio.to_thread(server.wait_until, lambda: first.first_token_s is not None)
    second = await ask(server, new_record(1))
    await asking

    assert (None, 100, "length") == (first.failure, first.completion_tokens, first.finish_reason)
    assert ("http_429", 429, True) == (
        second.failure,
        second.status,
        float(second.retry_after) > 0,
    )


def test_interrupted_command_reports(server, tmp_path):
    """After Ctrl-C, what was in flight is written down as interrupted, and the command fails."""
    path = tmp_path / "bench.json"
    options = ("--concurrency=1", "--requests=1", "--output=1500", "--tokens-per-word=2")
    key = server.headers["Authorization"].removeprefix("Bearer ")
    command = subprocess.Popen(
        [
            *(sys.executable, "-m", "stillhouse", "bench", server.url, "--model", DEMO_MODEL),
            *(*options, f"--key={key}", f"--json={path}"),
        ],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    server.wait_until(lambda: server.outstanding() == 1)
    command.send_signal(signal.SIGINT)
    _, complaint = command.communicate(timeout=WAIT_S)
    (run,) = decode_json(path.read_bytes(), Document).runs
    server.wait_until(lambda: server.outstanding() == 0)

    assert (1, True, ["interrupted"]) == (
        command.returncode,
        run.is_interrupted,
        [record.failure for record in run.records],
    )
    assert "no request was answered: interrupted" in complaint


async def test_server_dies_in_mid_stream(tmp_path):
    """A connection that ends without an end is a failure, whatever came before."""
    server = FaultServer(tmp_path / "home", "token_interval_s = 0.02\n")
    try:
        assert server.comes_up()
        record = new_record(2000)
        asking = asyncio.create_task(ask(server, record))
        await asyncio.to_thread(server.wait_until, lambda: record.gaps_s)
        server.kill()
        await asking
    finally:
        server.kill()

    assert ("disconnected", 200, False) == (record.failure, record.status, record.is_whole)
    assert record.finish_reason is None
    await asyncio.to_thread(assert_ledger_is_right, server.home)
