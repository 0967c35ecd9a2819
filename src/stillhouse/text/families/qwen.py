"""Qwen2.5-Instruct and Qwen3: tools as in Hermes 2 Pro; Qwen3 opens its reasoning itself."""

from __future__ import annotations

from dataclasses import replace

from stillhouse.text.families.base import ModelFamily, Reasoning
from stillhouse.text.families.tool_call_forms import HERMES_CALLS
from stillhouse.types.messages import Message

REASONING = Reasoning(
    begin="<think>\n", end="\n</think>\n\n", is_on=True, variable="enable_thinking"
)


def split_thoughts(message: Message) -> Message:
    """
    Splits reasoning from content, as Qwen3's own template splits earlier answers.

    The template itself drops the thoughts of answers before the last question, and keeps those
    between the calls that it led to.
    """
    before, tag, after = message.content.rpartition(REASONING.tags.close)
    if message.reasoning or not tag:
        return message
    thoughts = before.partition(REASONING.tags.close)[0].rpartition(REASONING.tags.open)[2]
    return replace(message, content=after.lstrip("\n"), reasoning=thoughts.strip("\n"))


QWEN25 = ModelFamily("qwen25", call_form=HERMES_CALLS)
QWEN3 = ModelFamily("qwen3", history=split_thoughts, reasoning=REASONING, call_form=HERMES_CALLS)
