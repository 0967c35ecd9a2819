"""Loads an engine from a checkpoint on disk."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import structlog

from stillhouse.checkpoints.vocabulary import read_vocabulary
from stillhouse.engines.openvino.graph.architecture import read_architecture
from stillhouse.engines.openvino.graph.decoder import Decoder
from stillhouse.engines.openvino.graph.weights_cache import (
    checkpoint_family,
    checkpoint_fingerprint,
    load_weights,
)
from stillhouse.engines.openvino.kv.disk_tier import DiskTier, remove_disk_tiers
from stillhouse.engines.openvino.machine import available_memory_bytes, num_physical_cores
from stillhouse.engines.openvino.runner import Runner
from stillhouse.engines.openvino.settings import EngineSettings, Precision
from stillhouse.engines.worker.frames import Loading
from stillhouse.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

# Of the memory that is free beside the weights, where no size is set.
KV_CACHE_SHARE = 0.25
KV_CACHE_SHARE_OF_ALL = 0.5


def load_runner(settings: EngineSettings, on_progress: Callable[[Loading], None]) -> Runner:
    """
    Reads, quantise, compiles and warm up the model that *settings* name.

    Raises:
        CheckpointError: The model's files are missing or not what they should be.
        ConfigError: A setting cannot be honoured on this machine.

    """
    architecture = read_architecture(settings.checkpoint_dir)
    # Up to a second for a large one, with the interpreter's lock held: never while others run.
    vocabulary = read_vocabulary(
        settings.checkpoint_dir / "tokenizer.json", architecture.vocab_size
    )
    num_threads = settings.num_threads or num_physical_cores()
    weights = load_weights(settings, architecture, num_threads=num_threads, on_progress=on_progress)
    limit = settings.context_length or architecture.context_length
    context_length = min(limit, architecture.context_length)

    def make_decoder(precision: Precision) -> Decoder:
        decoder = Decoder(architecture, weights, num_threads=num_threads, precision=precision)
        num_bytes = settings.kv_cache_bytes
        if num_bytes is None:
            free_bytes = available_memory_bytes() - weights.content.nbytes
            num_blocks = settings.max_sequences * -(-context_length // decoder.block_size)
            num_bytes = min(
                num_blocks * decoder.block_bytes,
                default_kv_cache_bytes(free_bytes, settings.num_models),
            )
        decoder.allocate_cache(_num_blocks(num_bytes, decoder))
        decoder.warm_up()
        return decoder

    on_progress(Loading("compiling the graph", 0, 1))
    decoder = _first_that_runs(make_decoder, settings.precision)
    on_progress(Loading("compiling the graph", 1, 1))
    return Runner(
        decoder,
        settings,
        vocab_size=architecture.vocab_size,
        context_length=min(context_length, decoder.num_blocks * decoder.block_size),
        vocabulary=vocabulary,
        disk_tier=_open_disk_tier(settings, decoder),
    )


def default_kv_cache_bytes(free_bytes: int, num_models: int) -> int:
    """
    Returns the default KV cache size of one of several models.

    Engines load one after the other and a cache takes memory only as it fills, so each engine sees
    memory as free that other caches will fill. All caches together get at most half of it.

    Args:
        free_bytes: Free memory less this model's weights, which take memory only when the first
            batch runs.

    """
    return int(max(0, free_bytes) * min(KV_CACHE_SHARE, KV_CACHE_SHARE_OF_ALL / num_models))


def _open_disk_tier(settings: EngineSettings, decoder: Decoder) -> DiskTier | None:
    parent = settings.prefix_disk_dir
    if parent is None:
        return None
    family = checkpoint_family(settings)
    if not settings.prefix_disk_bytes:
        remove_disk_tiers(parent, family)
        return None
    text = f"{checkpoint_fingerprint(settings)} {decoder.block_format}"
    identity = hashlib.sha256(text.encode()).digest()
    folder = parent / f"{family}-{identity.hex()[:16]}"
    remove_disk_tiers(parent, family, but=folder)
    return DiskTier(folder, decoder, identity=identity, max_bytes=settings.prefix_disk_bytes)


def _first_that_runs(make_decoder: Callable[[Precision], Decoder], precision: Precision) -> Decoder:
    """Falls back to float32 where the processor lacks the kernels that OpenVINO chose by itself."""
    try:
        return make_decoder(precision)
    except RuntimeError as error:  # the only kind that OpenVINO raises
        if precision is Precision.F32:
            raise ConfigError(f"OpenVINO cannot run this model on this machine: {error}") from error
        structlog.get_logger().warning("engine_falls_back_to_f32", reason=str(error)[-300:])
    return _first_that_runs(make_decoder, Precision.F32)


def _num_blocks(num_bytes: int, decoder: Decoder) -> int:
    if num_bytes < decoder.block_bytes:
        raise ConfigError(
            f"kv_cache_bytes is {num_bytes}; one block of {decoder.block_size} tokens takes "
            f"{decoder.block_bytes}. Where none is set, it is a share of the memory that is free "
            "beside the weights."
        )
    return num_bytes // decoder.block_bytes
