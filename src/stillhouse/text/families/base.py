"""Describes how one family of models reads conversations and writes its answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stillhouse.text.tokenizer import Segment
from stillhouse.types.messages import Message, Tool
from stillhouse.types.tool_call_form import ToolCallForm


@dataclass(frozen=True, slots=True)
class ReasoningTags:
    """The tags around reasoning, each a single token of the vocabulary."""

    open: str = "<think>"
    close: str = "</think>"


@dataclass(frozen=True, slots=True)
class Reasoning:
    """
    Describes how a model reasons, and how a prompt turns reasoning on or off.

    Args:
        begin: What opens the reasoning where a prompt is to open it: the tag with its white space.
        end: What ends it in the same way.
        is_on: The model reasons unless a request says otherwise.
        variable: The chat template's variable that turns thinking on and off; None: there is none,
            and a prompt without reasoning continues behind `end`.
        is_opened_by_template: The template opens the reasoning wherever the model is to reason.
        goes_with_tools: The model can reason before it calls tools.

    """

    begin: str
    end: str
    is_on: bool
    variable: str | None = None
    is_opened_by_template: bool = False
    goes_with_tools: bool = True
    tags: ReasoningTags = ReasoningTags()


@dataclass(frozen=True, slots=True)
class ReasoningTagIds:
    """The ids of `ReasoningTags` in one checkpoint's vocabulary."""

    open: int
    close: int


def unchanged(message: Message) -> Message:
    """Returns the whole message: there is no reasoning to cut off."""
    return message


@dataclass(frozen=True, slots=True)
class ModelFamily:
    """
    Describes how one family of models reads conversations and writes its answers.

    Args:
        history: Returns the part of an earlier answer that later prompts repeat. Request text never
            reaches the chat template, so cutting reasoning off is done here, not there.
        reasoning: None for models that do not reason.
        call_form: The form of its tool calls; None for models without tools.
        describe_tools: The system text about tools, for families whose template has none.

    """

    name: str
    history: Callable[[Message], Message] = unchanged
    reasoning: Reasoning | None = None
    call_form: ToolCallForm | None = None
    describe_tools: Callable[[Sequence[Tool]], list[Segment]] | None = None


def opens_in_reasoning(rendered: Sequence[Segment], tags: ReasoningTags) -> bool:
    """Returns whether an answer starts in reasoning: the template's last tag opens one."""
    for segment in reversed(rendered):
        opened, closed = segment.text.rfind(tags.open), segment.text.rfind(tags.close)
        if segment.is_template and opened != closed:
            return opened > closed
    return False
