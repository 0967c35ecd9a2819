"""Models that answer without thinking: Llama 3, Qwen2.5-Instruct and their like."""

from __future__ import annotations

from stillhouse.models.dialects.base import Dialect


def unchanged(text: str) -> str:
    """The whole text: there is no reasoning to cut off."""
    return text


PLAIN = Dialect("plain", history=unchanged, reasoning=None)
