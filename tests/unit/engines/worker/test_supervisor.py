"""Supervision of workers that misbehave."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from stillhouse.engines.base import GenerateRequest
from stillhouse.engines.worker.config import SupervisionConfig
from stillhouse.engines.worker.engine import WorkerEngine
from stillhouse.engines.worker.frames import Loading
from stillhouse.errors import (
    CheckpointError,
    ConfigError,
    EngineCrashedError,
    EngineUnavailableError,
    InvalidRequestError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ODD_WORKER = str(Path(__file__).parent / "odd_worker.py")
REQUEST = GenerateRequest("r", [1], 1)


def make_engine(
    behaviour: str, directory: Path, on_progress=None, *, model: str = "", **times: float
) -> WorkerEngine:
    command = [sys.executable, ODD_WORKER, behaviour, str(directory / "marker")]
    quick = SupervisionConfig(**{"first_restart_delay_s": 0.01, **times})
    return WorkerEngine(command, model=model, on_progress=on_progress, timeouts=quick)


@asynccontextmanager
async def running(engine: WorkerEngine) -> AsyncIterator[WorkerEngine]:
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()


async def collect(engine: WorkerEngine) -> list[int]:
    return [
        token for step in [s async for s in engine.generate(REQUEST)] for token in step.token_ids
    ]


async def test_progress_is_reported_at_every_start(tmp_path: Path):
    """Who asked is told how loading goes, also when the worker is restarted."""
    reports: list[Loading] = []
    async with running(make_engine("sound", tmp_path, reports.append)) as engine:
        assert [Loading("thinking", 1, 2)] == reports
        assert [7] == await collect(engine)
        await kill_and_wait(engine)
    assert 2 == len(reports)


async def test_the_log_says_what_an_engine_can_hold(tmp_path: Path):
    """One line at every start: the model, and its KV cache in all the units one might ask for."""
    with capture_logs() as entries:
        async with running(make_engine("sound", tmp_path, model="my/model")) as engine:
            pid = engine.worker_pid
    assert {
        "event": "engine_ready",
        "log_level": "info",
        "model": "my/model",
        "pid": pid,
        "context_length": 100,
        "kv_cache_bytes": 70,
        "kv_cache_blocks": 10,
        "kv_cache_tokens": 150,
        "kv_cache_whole_contexts": 1.5,
    } in entries


async def test_a_worker_can_finish_what_it_does_when_it_is_stopped(tmp_path: Path):
    """What it wants to leave behind is there when `stop` returns."""
    async with running(make_engine("sound", tmp_path)):
        assert not (tmp_path / "marker").read_text()
    assert "closed" == (tmp_path / "marker").read_text()


async def kill_and_wait(engine: WorkerEngine) -> None:
    assert engine.worker_pid is not None
    os.kill(engine.worker_pid, signal.SIGKILL)
    with pytest.raises(EngineUnavailableError, match="died"):
        await engine.health()
    await engine.wait_until_serving()


@pytest.mark.parametrize(
    ("behaviour", "error", "message"),
    [
        ("bad-checkpoint", CheckpointError, "no such tensor"),
        ("bad-config", ConfigError, "too small"),
        ("dies-loading", EngineUnavailableError, "exit code 0"),
    ],
)
async def test_a_first_start_that_fails_says_why(behaviour, error, message, tmp_path):
    """Whoever starts the engine gets the worker's own reason, and nothing keeps running."""
    engine = make_engine(behaviour, tmp_path)
    with pytest.raises(error, match=message):
        await engine.start()
    with pytest.raises(EngineUnavailableError, match="not running"):
        await collect(engine)


async def test_a_program_that_cannot_be_run_is_no_engine():
    """A worker that does not exist is an engine that is unavailable."""
    with pytest.raises(EngineUnavailableError, match="cannot be run"):
        await WorkerEngine(["/no/such/program"]).start()


async def test_a_worker_that_says_nothing_is_given_up(tmp_path):
    """A start does not wait for ever."""
    with pytest.raises(EngineUnavailableError, match=r"silent for 0\.3 s"):
        await make_engine("never-ready", tmp_path, load_silence_timeout_s=0.3).start()


async def test_a_start_that_is_cancelled_leaves_no_worker(tmp_path):
    """Giving up on a start ends the worker that was loading."""
    engine = make_engine("never-ready", tmp_path)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(engine.start(), 0.3)
    with pytest.raises(EngineUnavailableError, match="not running"):
        await engine.health()


async def test_a_worker_that_hangs_is_unhealthy_and_then_replaced(tmp_path):
    """A loop that does not answer fails the health check; after long enough it is killed."""
    engine = make_engine(
        "hangs-at-first", tmp_path, health_timeout_s=0.05, ping_interval_s=0.05, hang_timeout_s=0.4
    )
    async with running(engine):
        with pytest.raises(EngineUnavailableError, match=r"did not answer within 0\.05 s"):
            await engine.health()
        with pytest.raises(EngineCrashedError):
            await collect(engine)
        await engine.wait_until_serving()
        assert [7] == await collect(engine)


async def test_a_worker_that_babbles_is_replaced(tmp_path):
    """Bytes that are no message end the connection, and the worker with it."""
    async with running(make_engine("babbles-at-first", tmp_path)) as engine:
        with pytest.raises(EngineCrashedError):
            await collect(engine)
        await engine.wait_until_serving()
        assert [7] == await collect(engine)


async def test_a_restart_that_fails_is_tried_again(tmp_path):
    """One bad restart is not the end."""
    async with running(make_engine("fails-to-restart", tmp_path)) as engine:
        await kill_and_wait(engine)
        assert (tmp_path / "marker-2").exists()
        assert [7] == await collect(engine)


async def test_an_engine_can_be_stopped_while_it_restarts(tmp_path):
    """Stopping does not wait for a restart that is due much later."""
    engine = make_engine("sound", tmp_path, first_restart_delay_s=1000.0)
    await engine.start()
    assert engine.worker_pid is not None
    os.kill(engine.worker_pid, signal.SIGKILL)
    with pytest.raises(EngineUnavailableError, match="died"):
        await engine.health()
    await engine.stop()
    with pytest.raises(EngineUnavailableError, match="not running"):
        await collect(engine)


async def test_an_engine_that_is_stopped_at_once_leaves_no_worker(tmp_path):
    """Stopping ends the worker even before anybody has begun to watch it."""
    engine = make_engine("sound", tmp_path)
    await engine.start()
    pid = engine.worker_pid
    assert pid is not None
    await engine.stop()
    assert engine.worker_pid is None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(EngineUnavailableError, match="not running"):
        await collect(engine)


async def test_a_refusal_in_the_middle_ends_the_stream(tmp_path):
    """What came before it is handed over, then the worker's own reason; the next is served."""
    async with running(make_engine("gives-up", tmp_path)) as engine:
        stream = engine.generate(REQUEST)
        assert (7,) == (await anext(stream)).token_ids
        with pytest.raises(InvalidRequestError, match="too hard"):
            await anext(stream)
        assert (7,) == (await anext(engine.generate(REQUEST))).token_ids


async def test_a_worker_that_hears_nothing_more_dies(tmp_path):
    """A request that cannot be read ends the worker, which is replaced, instead of deafening it."""
    request = GenerateRequest("r", ["no number"], 1)
    async with running(make_engine("sound", tmp_path)) as engine:
        with pytest.raises(EngineCrashedError):
            await anext(engine.generate(request))
        await engine.wait_until_serving()
        assert [7] == await collect(engine)
