"""Builds responses in Anthropic's JSON, with DeepInfra's ``estimated_cost`` in the usage."""

from __future__ import annotations

import json
from typing import Any, Literal

import msgspec
from pydantic_core import from_json
from typing_extensions import TypedDict

from stillhouse.api.http.usage import (
    AnthropicFinalUsageOut,
    AnthropicUsageOut,
    anthropic_final_usage_out,
    anthropic_usage_out,
)
from stillhouse.types.events import ChoiceAnswer, Finish, FinishReason
from stillhouse.types.messages import ToolCall
from stillhouse.types.response_meta import ResponseMeta
from stillhouse.types.usage import TokenUsage

ID_PREFIX = "msg_"

# Fields in the order in which they are written.


class ThinkingBlockOut(TypedDict):
    """A block of reasoning."""

    type: Literal["thinking"]
    thinking: str
    signature: str


class TextBlockOut(TypedDict):
    """A block of text."""

    type: Literal["text"]
    text: str


class ToolUseBlockOut(TypedDict):
    """A tool call; `input` is an object."""

    type: Literal["tool_use"]
    id: str
    name: str
    input: Any


BlockOut = ThinkingBlockOut | TextBlockOut | ToolUseBlockOut
StopReasonOut = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use"]


class StopOut(TypedDict):
    """Why a message ended."""

    stop_reason: StopReasonOut | None
    stop_sequence: str | None


class AnthropicMessageOut(StopOut):
    """A message; an empty one in the first event of a stream."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[BlockOut]
    usage: AnthropicUsageOut | AnthropicFinalUsageOut


_STOP_REASONS: dict[FinishReason, StopReasonOut] = {
    FinishReason.STOP: "end_turn",
    FinishReason.LENGTH: "max_tokens",
    FinishReason.TOOL_CALLS: "tool_use",
}


def stop_out(end: ChoiceAnswer | Finish) -> StopOut:
    """Returns why a choice ended."""
    is_stopped = end.reason is FinishReason.STOP and end.stop_string is not None
    return {
        "stop_reason": "stop_sequence" if is_stopped else _STOP_REASONS[end.reason],
        "stop_sequence": end.stop_string if is_stopped else None,
    }


def message_out(
    meta: ResponseMeta, choice: ChoiceAnswer, finish: Finish, *, shows_thinking: bool
) -> AnthropicMessageOut:
    """Returns a complete message."""
    return {
        "id": meta.request_id,
        "type": "message",
        "role": "assistant",
        "model": meta.model_id,
        "content": _content_out(choice, shows_thinking=shows_thinking),
        **stop_out(choice),
        "usage": anthropic_final_usage_out(finish),
    }


def message_start_out(meta: ResponseMeta, usage: TokenUsage) -> AnthropicMessageOut:
    """Returns a message without content yet."""
    return {
        "id": meta.request_id,
        "type": "message",
        "role": "assistant",
        "model": meta.model_id,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": anthropic_usage_out(usage),
    }


def _content_out(choice: ChoiceAnswer, *, shows_thinking: bool) -> list[BlockOut]:
    content: list[BlockOut] = []
    if choice.reasoning:
        thinking = choice.reasoning if shows_thinking else ""
        content.append({"type": "thinking", "thinking": thinking, "signature": ""})
    if choice.content:
        content.append({"type": "text", "text": choice.content})
    content += [_tool_use_out(call) for call in choice.tool_calls]
    return content


def _tool_use_out(call: ToolCall) -> ToolUseBlockOut:
    return {
        "type": "tool_use",
        "id": call.id,
        "name": call.name,
        "input": msgspec.Raw(_object_in(call.arguments).encode()),
    }


def _object_in(arguments: str) -> str:
    """
    Returns a tool's arguments as a JSON object, whatever the model generated.

    Complete arguments are unchanged. Arguments cut by ``max_tokens`` keep their complete fields, as
    in Anthropic's own client. Anything else becomes an empty object, and the tool reports what it
    misses.
    """
    for allow_partial in (False, True):
        try:
            value = from_json(arguments, allow_inf_nan=False, allow_partial=allow_partial)
        except ValueError:
            continue
        if isinstance(value, dict):
            return json.dumps(value, ensure_ascii=False) if allow_partial else arguments
    return "{}"
