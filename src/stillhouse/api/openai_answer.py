"""Answers in OpenAI's JSON as DeepInfra writes it."""

from __future__ import annotations

from typing import Any

from stillhouse.chat import (
    ChoiceAnswer,
    Finish,
    Logprob,
    TokenLogprobs,
    TokenUsage,
    ToolCall,
    ToolCallDelta,
)
from stillhouse.serving.replay import AnswerHead


def usage_out(usage: TokenUsage, cost_picousd: int | None, reasoning_tokens: int) -> dict[str, Any]:
    """Usage in DeepInfra's order of keys; the cost is the float nearest to the exact amount."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "total_tokens": usage.total_tokens,
        "completion_tokens": usage.completion_tokens,
        "estimated_cost": None if cost_picousd is None else cost_picousd / 10**12,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": reasoning_tokens},
    }


def completion_out(
    head: AnswerHead,
    choices: tuple[ChoiceAnswer, ...],
    finish: Finish,
    *,
    has_logprobs: bool,
    service_tier: str | None,
) -> dict[str, Any]:
    """
    A whole chat completion.

    Args:
        service_tier: The one that was used, where the request has asked for one.

    """
    return {
        "id": head.request_id,
        "object": "chat.completion",
        "created": head.created_s,
        "model": head.model_id,
        "choices": [
            _choice_out(index, choice, has_logprobs=has_logprobs)
            for index, choice in enumerate(choices)
        ],
        "usage": usage_out(finish.usage, finish.cost_picousd, finish.reasoning_tokens),
        **({"service_tier": service_tier} if service_tier else {}),
    }


def _choice_out(index: int, choice: ChoiceAnswer, *, has_logprobs: bool) -> dict[str, Any]:
    return {
        "index": index,
        "message": _message_out(choice),
        **({"logprobs": logprobs_out(choice.logprobs)} if has_logprobs else {}),
        "finish_reason": choice.reason,
    }


def _message_out(choice: ChoiceAnswer) -> dict[str, Any]:
    """`reasoning_content` is there when the model reasoned; an answer of calls has no content."""
    message: dict[str, Any] = {"role": "assistant"}
    message["content"] = choice.content or (None if choice.tool_calls else "")
    if choice.reasoning:
        message["reasoning_content"] = choice.reasoning
    calls = [_tool_call_out(call) for call in choice.tool_calls]
    return message | {"name": None, "tool_calls": calls or None}


def _tool_call_out(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}


def tool_call_delta_out(delta: ToolCallDelta) -> dict[str, Any]:
    """A call's first delta names it; those that follow add to its arguments."""
    if not delta.id:
        return {"index": delta.index, "function": {"arguments": delta.arguments}}
    function = {"name": delta.name, "arguments": delta.arguments}
    return {"index": delta.index, "id": delta.id, "type": "function", "function": function}


def logprobs_out(logprobs: tuple[TokenLogprobs, ...]) -> dict[str, Any]:
    """The log probabilities of a stretch of content, token by token."""
    return {
        "content": [
            {**_logprob_out(token.drawn), "top_logprobs": [_logprob_out(t) for t in token.top]}
            for token in logprobs
        ],
        "refusal": None,
    }


def _logprob_out(logprob: Logprob) -> dict[str, Any]:
    return {
        "token": logprob.token_bytes.decode(errors="replace"),
        "logprob": logprob.logprob,
        "bytes": list(logprob.token_bytes),
    }
