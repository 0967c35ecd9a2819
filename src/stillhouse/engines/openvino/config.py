"""Section ``[engine]`` of the configuration."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from stillhouse.settings import Section


class OpenVinoConfig(Section):
    """
    Section ``[engine]``, as far as the embedded engine reads it.

    Args:
        kv_cache_mib: Memory for keys and values; None lets the engine choose from what is free.
        prefix_disk_mib: Size of the disk tier per model, which keeps prefixes that many prompts
            share; 0 keeps none.
        threads: None takes every core.
        target_pause_ms: Longest wait of an answer for its next token while prompts are computed
            beside it.
        max_draft_tokens: Most draft tokens per step where an answer repeats its context; they do
            not change the output distribution. 0 proposes none.

    """

    weights: Literal["f16", "int8", "int4"] = "int8"
    kv_cache_mib: int | None = Field(default=None, ge=1)
    prefix_disk_mib: int = Field(default=0, ge=0)
    max_sequences: int = Field(default=64, ge=1, le=1024)
    target_pause_ms: int = Field(default=200, ge=1, le=60_000)
    max_draft_tokens: int = Field(default=8, ge=0, le=16)
    threads: int | None = Field(default=None, ge=1)
    precision: Literal["default", "f32"] = "default"
