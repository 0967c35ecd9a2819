"""How one family of models writes its answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReasoningMarks:
    """The tokens between which a model thinks, each a single token of its vocabulary."""

    open: str = "<think>"
    close: str = "</think>"


@dataclass(frozen=True, slots=True)
class MarkIds:
    """The ids of `ReasoningMarks` in one checkpoint's vocabulary."""

    open: int
    close: int


@dataclass(frozen=True, slots=True)
class Dialect:
    """
    How one family of models writes its answers.

    Args:
        history: From an earlier answer's text to what of it the model is shown again. Request text
            never reaches the chat template, so cutting reasoning off is done here, not there.
        reasoning: None for models that do not think.

    """

    name: str
    history: Callable[[str], str]
    reasoning: ReasoningMarks | None


def opens_in_reasoning(prompt_token_ids: Sequence[int], marks: MarkIds) -> bool:
    """Whether an answer to this prompt starts inside the reasoning: its last mark opens one."""
    for token_id in reversed(prompt_token_ids):
        if token_id == marks.open:
            return True
        if token_id == marks.close:
            return False
    return False
