"""Creates the engines that the contract is tested on."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stillhouse.engines.capabilities import ALL_CONSTRAINTS, Capabilities
from stillhouse.engines.openvino.engine import openvino_engine
from stillhouse.engines.openvino.settings import EngineSettings, Precision
from stillhouse.engines.worker.engine import WorkerEngine
from stillhouse.testing.fake_engine.engine import fake_engine
from stillhouse.testing.fake_engine.settings import FAKE_CAPABILITIES, FakeSettings
from tests.ascii_tokenizer import write_ascii_tokenizer
from tests.random_checkpoint import LLAMA_CONFIG, write_checkpoint

if TYPE_CHECKING:
    from pathlib import Path

BLOCK_SIZE = 32
NUM_LAYERS, NUM_KV_HEADS, HEAD_DIM = 2, 2, 32  # of LLAMA_CONFIG
BLOCK_BYTES = 2 * NUM_LAYERS * NUM_KV_HEADS * BLOCK_SIZE * HEAD_DIM * 4  # keys and values, float32


@dataclass(frozen=True, slots=True)
class EngineShape:
    """The engine settings of a test that differ from the defaults."""

    num_blocks: int = 256
    chunk_tokens: int = 512
    batch_tokens: int = 1024
    max_sequences: int = 64


RunningEngine = Callable[[EngineShape], contextlib.AbstractAsyncContextManager[WorkerEngine]]


def openvino_on_random_weights(directory: Path) -> Callable[[EngineShape], WorkerEngine]:
    """Return a factory of embedded engines in float32, in which a batch cannot change a token."""
    write_checkpoint(directory / "checkpoint", LLAMA_CONFIG)
    write_ascii_tokenizer(directory / "checkpoint")

    def make(shape: EngineShape) -> WorkerEngine:
        settings = EngineSettings(
            checkpoint_dir=directory / "checkpoint",
            cache_dir=directory / "cache",
            precision=Precision.F32,
            kv_cache_bytes=shape.num_blocks * BLOCK_BYTES,
            prefill_chunk_tokens=shape.chunk_tokens,
            max_batch_tokens=shape.batch_tokens,
            max_sequences=shape.max_sequences,
            num_threads=1,
        )
        return openvino_engine(settings)

    return make


def fake(directory: Path) -> Callable[[EngineShape], WorkerEngine]:
    """Return a factory of fake engines with the same vocabulary and context."""
    write_checkpoint(directory / "checkpoint", LLAMA_CONFIG)

    def make(shape: EngineShape) -> WorkerEngine:
        settings = FakeSettings(
            checkpoint_dir=directory / "checkpoint",
            word_ids=(0, LLAMA_CONFIG["vocab_size"] - 1),
            token_interval_s=0.001,  # so that a cancel can arrive in between
            slots=shape.max_sequences,
            num_blocks=shape.num_blocks,
            block_size=BLOCK_SIZE,
        )
        return fake_engine(settings)

    return make


ENGINE_KINDS = {"openvino": openvino_on_random_weights, "fake": fake}
KINDS_WITH_GRAMMARS = ("openvino",)
DECLARED = {
    "openvino": Capabilities(
        salted_prefix_cache=True,
        public_prefixes=True,
        priority=True,
        usage_at_abort=True,
        seed=True,
        penalties=True,
        logit_bias=True,
        max_top_logprobs=20,
        constraints=ALL_CONSTRAINTS,
    ),
    "fake": FAKE_CAPABILITIES,
}


def running(make: Callable[[EngineShape], WorkerEngine]) -> RunningEngine:
    """Return *make* as a context manager in which the engine runs."""

    @contextlib.asynccontextmanager
    async def context(shape: EngineShape) -> AsyncIterator[WorkerEngine]:
        engine = make(shape)
        await engine.start()
        try:
            yield engine
        finally:
            await engine.stop()

    return context
