"""DeepSeek-R1 and its distills: the prompt ends in ``<think>``, so answers start in reasoning."""

from __future__ import annotations

from stillhouse.models.dialects.base import Dialect, ReasoningMarks

MARKS = ReasoningMarks()


def after_last_close(text: str) -> str:
    """What follows the last ``</think>``, as R1's own template cuts earlier answers."""
    return text.rpartition(MARKS.close)[2]


DEEPSEEK_R1 = Dialect("deepseek_r1", history=after_last_close, reasoning=MARKS)
