"""Defines the operator's settings of the embedded engine."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec

from stillhouse.errors import ConfigError


class WeightFormat(StrEnum):
    """The format of matrices; a smaller one is faster on a machine short of memory bandwidth."""

    F16 = "f16"
    INT8 = "int8"
    INT4 = "int4"


class Precision(StrEnum):
    """
    The numeric precision of the graph.

    DEFAULT is OpenVINO's choice for the processor: bf16 where it has it, activations quantised by
    groups, a KV cache of 8 bits. F32 is slower, and lets the same sequence give the same tokens
    however it is batched, chunked or preempted.
    """

    DEFAULT = "default"
    F32 = "f32"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """
    Holds the operator's settings of the embedded engine.

    Args:
        checkpoint_dir: A Hugging Face checkpoint: config.json and safetensors.
        cache_dir: Folder of packed weights, kept for the next start.
        weights: Format of the matrices.
        precision: Numeric precision of the graph.
        context_length: Most tokens of one sequence; None takes what the model was made for.
        kv_cache_bytes: Size of the KV cache; None takes what `max_sequences` whole contexts need,
            but no more than a quarter of the memory that is free beside the weights, and of many
            models together no more than half.
        num_models: Number of engines that share this machine's memory.
        prefix_disk_bytes: Most bytes of shared prefixes kept on disk for the next start; they are
            derived from users' prompts. 0 keeps none, and removes those of earlier starts.
        prefix_disk_dir: Folder of these prefixes; engines may share it.
        max_sequences: Most sequences computed in one step.
        max_batch_tokens: Most tokens computed in one step.
        target_pause_s: Longest wait of running sequences for their next token while prompts are
            computed beside them; it bounds the prompt tokens of a step.
        prefill_chunk_tokens: Replaces the target: most tokens of one prompt in one step, the same
            on every machine.
        max_draft_tokens: Most draft tokens of one sequence in one step; 0 proposes none.
        num_threads: None takes every physical core that this process may use.

    Raises:
        ConfigError: The values do not go together.

    """

    checkpoint_dir: Path
    cache_dir: Path
    weights: WeightFormat = WeightFormat.INT8
    precision: Precision = Precision.DEFAULT
    context_length: int | None = None
    kv_cache_bytes: int | None = None
    num_models: int = 1
    prefix_disk_bytes: int = 0
    prefix_disk_dir: Path | None = None
    max_sequences: int = 64
    max_batch_tokens: int = 1024
    target_pause_s: float = 0.2
    prefill_chunk_tokens: int | None = None
    max_draft_tokens: int = 8
    num_threads: int | None = None

    def __post_init__(self) -> None:
        for name in (
            "context_length",
            "kv_cache_bytes",
            "num_models",
            "max_sequences",
            "max_batch_tokens",
            "prefill_chunk_tokens",
            "num_threads",
        ):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} is {value}; it must be at least 1.")
        if self.prefix_disk_bytes < 0:
            raise ConfigError(
                f"prefix_disk_bytes is {self.prefix_disk_bytes}; it must be 0, which is off, "
                "or more."
            )
        if self.prefix_disk_bytes and self.prefix_disk_dir is None:
            raise ConfigError("prefix_disk_bytes needs a prefix_disk_dir; there is none.")
        if self.max_draft_tokens < 0:
            raise ConfigError(f"max_draft_tokens is {self.max_draft_tokens}; it must be 0 or more.")
        if not self.target_pause_s > 0:
            raise ConfigError(f"target_pause_s is {self.target_pause_s}; it must be above 0.")
        if self.max_batch_tokens <= self.max_sequences:
            raise ConfigError(
                f"max_batch_tokens is {self.max_batch_tokens}; it must be more than max_sequences "
                f"({self.max_sequences}), so that prompts advance beside a full batch."
            )

    def to_json(self) -> str:
        """Returns the settings as a worker's command line carries them."""
        return msgspec.json.encode(self, enc_hook=str).decode()

    @classmethod
    def from_json(cls, text: str) -> EngineSettings:
        """Reads what `to_json` wrote."""
        return msgspec.json.decode(text, type=cls, dec_hook=_path)


def _path(_kind: type, value: Any) -> Path:
    return Path(value)
