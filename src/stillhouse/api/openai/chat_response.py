"""Builds chat completions in OpenAI's JSON, with DeepInfra's extensions."""

from __future__ import annotations

from typing import Literal, NotRequired

from typing_extensions import TypedDict

from stillhouse.api.http.usage import UsageOut, usage_out
from stillhouse.types.events import ChoiceAnswer, Finish, FinishReason, ToolCallDelta
from stillhouse.types.logprobs import Logprob, TokenLogprobs
from stillhouse.types.messages import ToolCall
from stillhouse.types.response_meta import ResponseMeta

# Fields in the order in which they are written.


class FunctionCallOut(TypedDict):
    """A called function; `arguments` is JSON text."""

    name: str
    arguments: str


class ToolCallOut(TypedDict):
    """A call of a tool."""

    id: str
    type: Literal["function"]
    function: FunctionCallOut


class MessageOut(TypedDict):
    """The assistant's message; it has `reasoning_content` if the model reasoned."""

    role: Literal["assistant"]
    content: str | None
    reasoning_content: NotRequired[str]
    name: None
    tool_calls: list[ToolCallOut] | None


class LogprobOut(TypedDict):
    """The log probability of a token; `bytes` is its text."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprobsOut(LogprobOut):
    """A token of the content, with the likeliest tokens in its position."""

    top_logprobs: list[LogprobOut]


class LogprobsOut(TypedDict):
    """The log probabilities of a piece of content, token by token."""

    content: list[TokenLogprobsOut]
    refusal: None


class ChoiceOut(TypedDict):
    """One of the choices."""

    index: int
    message: MessageOut
    logprobs: NotRequired[LogprobsOut]
    finish_reason: FinishReason


class ChatCompletionOut(TypedDict):
    """A whole chat completion; it has `service_tier` if the request named one."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChoiceOut]
    usage: UsageOut
    service_tier: NotRequired[str]


class FunctionDeltaOut(TypedDict):
    """A function's name, or the next piece of its arguments."""

    name: NotRequired[str]
    arguments: str


class ToolCallDeltaOut(TypedDict):
    """The first delta of a call has its name; later ones add to its arguments."""

    index: int
    id: NotRequired[str]
    type: NotRequired[Literal["function"]]
    function: FunctionDeltaOut


class DeltaOut(TypedDict):
    """New text of a choice; empty in its last chunk."""

    role: NotRequired[Literal["assistant"]]
    content: NotRequired[str]
    reasoning_content: NotRequired[str]
    tool_calls: NotRequired[list[ToolCallDeltaOut]]


class ChoiceDeltaOut(TypedDict):
    """New text of one of the choices."""

    index: int
    delta: DeltaOut
    logprobs: NotRequired[LogprobsOut]
    finish_reason: FinishReason | None


class ChatCompletionChunkOut(TypedDict):
    """One event of a stream; `chunks.py` writes it without building it."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    service_tier: NotRequired[str]
    choices: list[ChoiceDeltaOut]
    usage: UsageOut | None


def completion_out(
    meta: ResponseMeta,
    choices: tuple[ChoiceAnswer, ...],
    finish: Finish,
    *,
    has_logprobs: bool,
    service_tier: str | None,
) -> ChatCompletionOut:
    """
    Returns a whole chat completion.

    Args:
        service_tier: The tier that was used, if the request named one.

    """
    answer: ChatCompletionOut = {
        "id": meta.request_id,
        "object": "chat.completion",
        "created": meta.created_s,
        "model": meta.model_id,
        "choices": [
            _choice_out(index, choice, has_logprobs=has_logprobs)
            for index, choice in enumerate(choices)
        ],
        "usage": usage_out(finish.usage, finish.cost_picousd, finish.reasoning_tokens),
    }
    if service_tier:
        answer["service_tier"] = service_tier
    return answer


def _choice_out(index: int, choice: ChoiceAnswer, *, has_logprobs: bool) -> ChoiceOut:
    message, reason = _message_out(choice), choice.reason
    if not has_logprobs:
        return {"index": index, "message": message, "finish_reason": reason}
    logprobs = logprobs_out(choice.logprobs)
    return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": reason}


def _message_out(choice: ChoiceAnswer) -> MessageOut:
    """Returns the message; a choice of nothing but calls has no content."""
    content = choice.content or (None if choice.tool_calls else "")
    calls = [_tool_call_out(call) for call in choice.tool_calls] or None
    if not choice.reasoning:
        return {"role": "assistant", "content": content, "name": None, "tool_calls": calls}
    return {
        "role": "assistant",
        "content": content,
        "reasoning_content": choice.reasoning,
        "name": None,
        "tool_calls": calls,
    }


def _tool_call_out(call: ToolCall) -> ToolCallOut:
    function: FunctionCallOut = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}


def tool_call_delta_out(delta: ToolCallDelta) -> ToolCallDeltaOut:
    """The first delta of a call has its name; later ones add to its arguments."""
    if not delta.id:
        return {"index": delta.index, "function": {"arguments": delta.arguments}}
    return {
        "index": delta.index,
        "id": delta.id,
        "type": "function",
        "function": {"name": delta.name, "arguments": delta.arguments},
    }


def logprobs_out(logprobs: tuple[TokenLogprobs, ...]) -> LogprobsOut:
    """The log probabilities of a piece of content, token by token."""
    return {"content": [_token_logprobs_out(token) for token in logprobs], "refusal": None}


def _token_logprobs_out(token: TokenLogprobs) -> TokenLogprobsOut:
    return {**_logprob_out(token.sampled), "top_logprobs": [_logprob_out(t) for t in token.top]}


def _logprob_out(logprob: Logprob) -> LogprobOut:
    return {
        "token": logprob.token_bytes.decode(errors="replace"),
        "logprob": logprob.logprob,
        "bytes": list(logprob.token_bytes),
    }
