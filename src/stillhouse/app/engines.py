"""Builds the engine of a model from its settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from stillhouse.app.config import EngineConfig
from stillhouse.engines.openvino.engine import openvino_engine
from stillhouse.engines.openvino.settings import EngineSettings, Precision, WeightFormat
from stillhouse.engines.worker.engine import WorkerEngine
from stillhouse.engines.worker.frames import Loading
from stillhouse.settings import MIB
from stillhouse.text.chat_model import ChatModel

WEIGHTS_FOLDER = "weights"
PREFIXES_FOLDER = "prefixes"

Progress = Callable[[Loading], None]


def make_engine(
    config: EngineConfig,
    chat: ChatModel,
    *,
    home: Path,
    num_models: int,
    on_progress: Progress | None,
) -> WorkerEngine:
    """
    Returns the engine of a model, not started.

    Args:
        home: Holds packed weights and the disk tier of prefixes.
        num_models: Engines that share this machine.
        on_progress: Called as the model loads, also at every restart.

    """
    if config.kind == "fake":
        return _fake_engine(config, chat, home)
    settings = EngineSettings(
        checkpoint_dir=chat.checkpoint_path,
        cache_dir=home / WEIGHTS_FOLDER,
        context_length=chat.context_length,
        weights=WeightFormat(config.weights),
        precision=Precision(config.precision),
        kv_cache_bytes=config.kv_cache_mib and config.kv_cache_mib * MIB,
        num_models=num_models,
        prefix_disk_bytes=config.prefix_disk_mib * MIB,
        prefix_disk_dir=home / PREFIXES_FOLDER,
        max_sequences=config.max_sequences,
        target_pause_s=config.target_pause_ms / 1000,
        max_draft_tokens=config.max_draft_tokens,
        num_threads=config.threads,
    )
    return openvino_engine(
        settings, model=chat.model_id, on_progress=on_progress, timeouts=config.supervision
    )


def _fake_engine(config: EngineConfig, chat: ChatModel, home: Path) -> WorkerEngine:
    from stillhouse.testing.fake_engine.engine import fake_engine  # noqa: PLC0415  (for tests alone)
    from stillhouse.testing.fake_engine.settings import (  # noqa: PLC0415  (as above)
        FakeSettings,
        Fault,
        FaultKind,
    )

    fake = config.fake
    settings = FakeSettings(
        checkpoint_dir=chat.checkpoint_path,
        context_length=chat.context_length,
        first_token_s=fake.first_token_s,
        token_interval_s=fake.token_interval_s,
        slots=fake.slots,
        faults=tuple(Fault(FaultKind(f.kind), f.at_token, f.seed) for f in fake.faults),
        witness_log=fake.witness_log and home / fake.witness_log,
    )
    return fake_engine(settings, model=chat.model_id, timeouts=config.supervision)
