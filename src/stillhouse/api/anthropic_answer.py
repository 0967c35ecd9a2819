"""Answers in Anthropic's JSON, with DeepInfra's ``estimated_cost`` beside the tokens."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from pydantic_core import from_json

from stillhouse.chat import ChoiceAnswer, ChoiceEnd, Finish, FinishReason, TokenUsage, ToolCall
from stillhouse.serving.replay import AnswerHead

ID_PREFIX = "msg_"

_STOP_REASONS = {
    FinishReason.STOP: "end_turn",
    FinishReason.LENGTH: "max_tokens",
    FinishReason.TOOL_CALLS: "tool_use",
}


def usage_out(usage: TokenUsage) -> dict[str, Any]:
    """Usage as Anthropic counts it: cached tokens are no input tokens."""
    return {
        "input_tokens": usage.prompt_tokens - usage.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.completion_tokens,
        "service_tier": "standard",
    }


def final_usage_out(finish: Finish) -> dict[str, Any]:
    """Usage at the end, with what was charged; the float nearest to the exact amount."""
    cost = None if finish.cost_picousd is None else finish.cost_picousd / 10**12
    return {
        **usage_out(finish.usage),
        "output_tokens_details": {"thinking_tokens": finish.reasoning_tokens},
        "estimated_cost": cost,
    }


def stop_out(end: ChoiceAnswer | ChoiceEnd | Finish) -> dict[str, Any]:
    """Why an answer ended."""
    is_stopped = end.reason is FinishReason.STOP and end.stop_string is not None
    return {
        "stop_reason": "stop_sequence" if is_stopped else _STOP_REASONS[end.reason],
        "stop_sequence": end.stop_string if is_stopped else None,
    }


def message_out(
    head: AnswerHead, choice: ChoiceAnswer, finish: Finish, *, shows_thinking: bool
) -> dict[str, Any]:
    """A whole message."""
    return {
        **_message_head_out(head),
        "content": _content_out(choice, shows_thinking=shows_thinking),
        **stop_out(choice),
        "usage": final_usage_out(finish),
    }


def message_start_out(head: AnswerHead, usage: TokenUsage) -> dict[str, Any]:
    """A message of which nothing is there yet."""
    return {
        **_message_head_out(head),
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage_out(usage),
    }


def _message_head_out(head: AnswerHead) -> dict[str, Any]:
    return {
        "id": head.request_id,
        "type": "message",
        "role": "assistant",
        "model": head.model_id,
    }


def _content_out(choice: ChoiceAnswer, *, shows_thinking: bool) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = []
    if choice.reasoning:
        thinking = choice.reasoning if shows_thinking else ""
        content.append({"type": "thinking", "thinking": thinking, "signature": ""})
    if choice.content:
        content.append({"type": "text", "text": choice.content})
    return content + [_tool_use_out(call) for call in choice.tool_calls]


def _tool_use_out(call: ToolCall) -> dict[str, Any]:
    return {
        "type": "tool_use",
        "id": call.id,
        "name": call.name,
        "input": msgspec.Raw(_object_in(call.arguments).encode()),
    }


def _object_in(arguments: str) -> str:
    """
    A JSON object, whatever the model wrote.

    Whole arguments stand as they were written. Of those that ``max_tokens`` has cut there is what
    Anthropic's own client makes of such a stream: the fields that are complete. Of anything else
    nothing is left, and the tool will say what it misses.
    """
    for allow_partial in (False, True):
        try:
            value = from_json(arguments, allow_inf_nan=False, allow_partial=allow_partial)
        except ValueError:
            continue
        if isinstance(value, dict):
            return json.dumps(value, ensure_ascii=False) if allow_partial else arguments
    return "{}"
