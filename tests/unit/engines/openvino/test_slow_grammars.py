"""An engine whose grammars take long is an engine that answers."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest_asyncio

from stillhouse.engines.base import EngineFinish, GenerateRequest, GenerateStep, Grammar
from stillhouse.engines.openvino.settings import EngineSettings, Precision
from stillhouse.engines.worker.config import SupervisionConfig
from stillhouse.engines.worker.engine import WorkerEngine
from stillhouse.types.sampling import SamplingParams
from tests.ascii_tokenizer import END_ID, text_of, write_ascii_tokenizer
from tests.random_checkpoint import LLAMA_CONFIG, write_checkpoint

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SLOW_WORKER = str(Path(__file__).parent / "slow_worker.py")
PLAIN = GenerateRequest("plain", [1, 2, 3], 5, SamplingParams(temperature=0))
GRAMMAR = Grammar('{"grammars": [{"lark_grammar": "start: /foo|bar/"}]}')
#: Every ping has to be answered within that, or the worker is killed.
TIMES = SupervisionConfig(ping_interval_s=0.05, hang_timeout_s=5)


@pytest_asyncio.fixture
async def engine(tmp_path: Path) -> AsyncIterator[WorkerEngine]:
    write_checkpoint(tmp_path / "checkpoint", LLAMA_CONFIG)
    write_ascii_tokenizer(tmp_path / "checkpoint")
    settings = EngineSettings(
        checkpoint_dir=tmp_path / "checkpoint",
        cache_dir=tmp_path / "cache",
        precision=Precision.F32,
        num_threads=1,
        kv_cache_bytes=2**20,
    )
    command = [sys.executable, SLOW_WORKER, str(tmp_path / "go"), settings.to_json()]
    engine = WorkerEngine(command, timeouts=TIMES)
    await engine.start()
    yield engine
    await engine.stop()


def constrained(number: int) -> GenerateRequest:
    return replace(PLAIN, request_id=f"r{number}", grammar=GRAMMAR, stop_token_ids=(END_ID,))


async def collect(engine: WorkerEngine, request: GenerateRequest) -> list[GenerateStep]:
    return [step async for step in engine.generate(request)]


async def test_who_waits_for_a_grammar_holds_up_no_cancel_and_no_ping(engine, tmp_path):
    """Pings, cancels and others are answered while 150 wait for one; then all are served."""
    pid, compiled = engine.worker_pid, []
    engine.on_compiled = lambda salt, seconds: compiled.append((salt, seconds))
    waiting = [asyncio.create_task(collect(engine, constrained(n))) for n in range(150)]
    await asyncio.sleep(0)

    plain = await collect(engine, PLAIN)
    assert 5 == plain[-1].usage.completion_tokens
    async with aclosing(engine.generate(constrained(1000))) as steps:
        first = asyncio.ensure_future(anext(steps))
        await asyncio.sleep(0)
        engine.cancel("r1000")
        assert EngineFinish.CANCELLED == (await first).finish
    for _ in range(20):
        assert 150 == (await engine.health()).num_waiting
    assert not any(task.done() for task in waiting)

    (tmp_path / "go").touch()
    for answer in await asyncio.gather(*waiting):
        *token_ids, end = [token_id for step in answer for token_id in step.token_ids]
        assert text_of(token_ids) in {"foo", "bar"}
        assert END_ID == end
    assert pid == engine.worker_pid
    ((salt, seconds),) = compiled
    assert ("", True) == (salt, seconds > 0)


async def test_a_grammar_that_is_no_use_is_refused_when_it_is_known(engine, tmp_path):
    """The others that waited behind it are served."""
    (tmp_path / "go").touch()
    bad = replace(constrained(1), grammar=Grammar(json.dumps({"grammars": []})))
    answers = await asyncio.gather(
        collect(engine, bad), collect(engine, constrained(2)), return_exceptions=True
    )
    assert "empty" in str(answers[0])
    assert isinstance(answers[1], list)
