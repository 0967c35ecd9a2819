"""DeepSeek-R1 and its distills: the prompt ends in ``<think>``, so answers start in reasoning."""

from __future__ import annotations

from dataclasses import replace

from stillhouse.text.families.base import ModelFamily, Reasoning
from stillhouse.types.messages import Message

REASONING = Reasoning(begin="<think>\n", end="\n</think>\n\n", is_on=True)


def after_last_close(message: Message) -> Message:
    """Returns the text behind the last ``</think>``, as R1's own template cuts earlier answers."""
    return replace(
        message, content=message.content.rpartition(REASONING.tags.close)[2], reasoning=""
    )


DEEPSEEK_R1 = ModelFamily("deepseek_r1", history=after_last_close, reasoning=REASONING)
