"""Continues a rendered conversation with open or closed reasoning, and with prefilled text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stillhouse.text.families.base import Reasoning, ReasoningTags, opens_in_reasoning
from stillhouse.text.tokenizer import Segment
from stillhouse.types.messages import Message


@dataclass(frozen=True, slots=True)
class AssistantPrefill:
    """
    The text with which an answer starts: an assistant's message that is continued.

    Args:
        is_thought_out: The reasoning, even if empty, is complete.

    """

    thoughts: str = ""
    content: str = ""
    is_thought_out: bool = False


def prefill_of(message: Message, tags: ReasoningTags) -> AssistantPrefill:
    """
    Splits the assistant's last message into reasoning and content.

    Some clients write thoughts into the content, as the model does: ``<think>…</think>Hello``.
    """
    content = message.content.lstrip()
    if message.reasoning or not content.startswith(tags.open):
        return AssistantPrefill(message.reasoning, message.content, bool(message.content))
    thoughts, tag, rest = content.removeprefix(tags.open).partition(tags.close)
    return AssistantPrefill(thoughts, rest.lstrip("\n"), bool(tag))


def continuation(
    rendered: Sequence[Segment],
    reasoning: Reasoning,
    prefill: AssistantPrefill,
    *,
    thinks: bool,
    must_open: bool,
) -> list[Segment]:
    """
    Returns the segments between the rendered template and the model's own text.

    Args:
        thinks: Whether the model is to think.
        must_open: Its reasoning must not be left for the model to open, or not to.

    """
    is_open = opens_in_reasoning(rendered, reasoning.tags)
    if not thinks:
        return [*_no_thoughts(reasoning, is_open=is_open), _said(prefill.content)]
    segments: list[Segment] = []
    begins = bool(prefill.thoughts) or prefill.is_thought_out
    if not is_open and (begins or must_open) and not reasoning.is_opened_by_template:
        segments.append(_written(reasoning.begin))
        is_open = True
    if is_open:
        segments += _thoughts(reasoning, prefill)
    return [*segments, _said(prefill.content)]


def _no_thoughts(reasoning: Reasoning, *, is_open: bool) -> list[Segment]:
    if is_open:
        return [_written(reasoning.end)]
    if reasoning.variable is None:
        return [_written(reasoning.begin + reasoning.end)]
    return []


def _thoughts(reasoning: Reasoning, prefill: AssistantPrefill) -> list[Segment]:
    """The thoughts in an open reasoning; the white space around them is the family's."""
    thoughts = prefill.thoughts.lstrip("\n")
    if not prefill.is_thought_out:
        return [_said(thoughts)]
    return [_said(thoughts.rstrip("\n")), _written(reasoning.end)]


def _written(text: str) -> Segment:
    return Segment(text, is_template=True)


def _said(text: str) -> Segment:
    return Segment(text, is_template=False)
