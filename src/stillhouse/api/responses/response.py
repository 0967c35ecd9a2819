"""Builds OpenAI's responses in JSON, with DeepInfra's ``estimated_cost`` in the usage."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from typing_extensions import TypedDict

from stillhouse.api.bodies.json_body import raw_json
from stillhouse.api.openai.chat_response import TokenLogprobsOut, logprobs_out
from stillhouse.api.responses.request import FormatIn, FunctionToolIn, ResponseIn
from stillhouse.errors import RequestError, StillhouseError
from stillhouse.types.events import ChoiceAnswer, Finish, FinishReason
from stillhouse.types.logprobs import TokenLogprobs
from stillhouse.types.messages import ToolCall
from stillhouse.types.response_meta import ResponseMeta

ID_PREFIX = "resp_"

# Fields in the order in which they are written.

StatusOut = Literal["completed", "incomplete", "in_progress", "failed"]


class ReasoningPartOut(TypedDict):
    """A part of reasoning."""

    type: Literal["reasoning_text"]
    text: str


class TextPartOut(TypedDict):
    """A part of text."""

    type: Literal["output_text"]
    text: str
    annotations: list[None]
    logprobs: list[TokenLogprobsOut]


class ReasoningItemOut(TypedDict):
    """An item of reasoning; it has no summary, and is not encrypted."""

    id: str
    type: Literal["reasoning"]
    summary: list[None]
    content: list[ReasoningPartOut]
    encrypted_content: None
    status: StatusOut


class MessageItemOut(TypedDict):
    """An item of text."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    content: list[TextPartOut]
    status: StatusOut


class FunctionCallItemOut(TypedDict):
    """A function call; `arguments` is JSON text."""

    id: str
    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str
    status: StatusOut


ItemOut = ReasoningItemOut | MessageItemOut | FunctionCallItemOut


class InputTokensOut(TypedDict):
    """A part of the input tokens."""

    cached_tokens: int
    cache_write_tokens: int


class OutputTokensOut(TypedDict):
    """A part of the output tokens."""

    reasoning_tokens: int


class ResponseUsageOut(TypedDict):
    """Usage; `estimated_cost` is in USD."""

    input_tokens: int
    input_tokens_details: InputTokensOut
    output_tokens: int
    output_tokens_details: OutputTokensOut
    total_tokens: int
    estimated_cost: float | None


class ResponseErrorOut(TypedDict):
    """What went wrong after the first byte."""

    code: Literal["server_error", "invalid_prompt"]
    message: str


class IncompleteOut(TypedDict):
    """Why a response was cut off."""

    reason: Literal["max_output_tokens"]


class EchoOut(TypedDict):
    """The request's fields, as OpenAI repeats them, and those that are constant here."""

    instructions: str | None
    max_output_tokens: int | None
    max_tool_calls: int | None
    metadata: dict[str, str]
    parallel_tool_calls: bool
    previous_response_id: None
    prompt_cache_key: str | None
    reasoning: dict[str, str | None]
    safety_identifier: str | None
    store: Literal[False]
    temperature: float | None
    text: dict[str, Any]
    tool_choice: Any
    tools: list[dict[str, Any]]
    top_logprobs: int
    top_p: float | None
    truncation: Literal["disabled"]
    user: str | None


class ResponseOut(EchoOut):
    """A response, complete or in progress."""

    id: str
    object: Literal["response"]
    created_at: int
    status: StatusOut
    background: Literal[False]
    error: ResponseErrorOut | None
    incomplete_details: IncompleteOut | None
    model: str
    output: list[ItemOut]
    usage: ResponseUsageOut | None
    service_tier: str


def item_id(prefix: str, meta: ResponseMeta, output_index: int) -> str:
    """Returns the id of an item; a replayed response has the same ids."""
    return f"{prefix}_{meta.request_id.removeprefix(ID_PREFIX)}{output_index:02x}"


def reasoning_out(id_: str, text: str | None, status: StatusOut) -> ReasoningItemOut:
    """Returns an item of reasoning; without a text, one that has only started."""
    return {
        "id": id_,
        "type": "reasoning",
        "summary": [],
        "content": [] if text is None else [reasoning_part_out(text)],
        "encrypted_content": None,
        "status": status,
    }


def reasoning_part_out(text: str) -> ReasoningPartOut:
    """Returns the text of an item of reasoning."""
    return {"type": "reasoning_text", "text": text}


def message_out(
    id_: str, text: str | None, logprobs: tuple[TokenLogprobs, ...], status: StatusOut
) -> MessageItemOut:
    """Returns an item of text; without a text, one that has only started."""
    return {
        "id": id_,
        "type": "message",
        "role": "assistant",
        "content": [] if text is None else [text_part_out(text, logprobs)],
        "status": status,
    }


def text_part_out(text: str, logprobs: tuple[TokenLogprobs, ...]) -> TextPartOut:
    """Returns the text of a message."""
    return {
        "type": "output_text",
        "text": text,
        "annotations": [],
        "logprobs": text_logprobs_out(logprobs),
    }


def text_logprobs_out(logprobs: tuple[TokenLogprobs, ...]) -> list[TokenLogprobsOut]:
    """Returns the log probabilities of a text, token by token."""
    return logprobs_out(logprobs)["content"]


def call_out(id_: str, call: ToolCall, status: StatusOut) -> FunctionCallItemOut:
    """Returns a function call."""
    return {
        "id": id_,
        "type": "function_call",
        "call_id": call.id,
        "name": call.name,
        "arguments": call.arguments,
        "status": status,
    }


def output_out(meta: ResponseMeta, choice: ChoiceAnswer) -> list[ItemOut]:
    """Returns the items of a whole response; a cut one has an incomplete last item."""
    items: list[ItemOut] = []
    if choice.reasoning:
        items.append(reasoning_out(item_id("rs", meta, 0), choice.reasoning, "completed"))
    if choice.content or choice.logprobs:
        id_ = item_id("msg", meta, len(items))
        items.append(message_out(id_, choice.content, choice.logprobs, "completed"))
    for call in choice.tool_calls:
        items.append(call_out(item_id("fc", meta, len(items)), call, "completed"))
    if items:
        items[-1]["status"] = ending_of(choice.reason)
    return items


def ending_of(reason: FinishReason) -> Literal["completed", "incomplete"]:
    """Returns the status of a response that has ended, and of its last item."""
    return "incomplete" if reason is FinishReason.LENGTH else "completed"


def response_out(  # noqa: PLR0913  (one argument per part that changes during the stream)
    meta: ResponseMeta,
    echo: EchoOut,
    *,
    status: StatusOut,
    output: Iterable[ItemOut] = (),
    finish: Finish | None = None,
    failure: ResponseErrorOut | None = None,
) -> ResponseOut:
    """
    A response, complete or in progress.

    Args:
        echo: The request's fields, from `echo_out`.
        failure: What went wrong, if anything did.

    """
    is_cut = status == "incomplete"
    return {
        "id": meta.request_id,
        "object": "response",
        "created_at": meta.created_s,
        "status": status,
        "background": False,
        "error": failure,
        "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
        "model": meta.model_id,
        "output": list(output),
        "usage": None if finish is None else _usage_out(finish),
        "service_tier": meta.tier.value,
        **echo,
    }


def failure_out(error: StillhouseError) -> ResponseErrorOut:
    """Returns the error with OpenAI's code for its cause."""
    is_ours = not isinstance(error, RequestError)
    return {"code": "server_error" if is_ours else "invalid_prompt", "message": error.message}


def _usage_out(finish: Finish) -> ResponseUsageOut:
    usage = finish.usage
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": finish.reasoning_tokens},
        "total_tokens": usage.total_tokens,
        "estimated_cost": None if finish.cost_picousd is None else finish.cost_picousd / 10**12,
    }


def echo_out(parsed: ResponseIn) -> EchoOut:
    """
    Returns the request's fields as the response repeats them.

    Raises:
        InvalidRequestError: A schema is nested too deeply to be repeated.

    """
    return {
        "instructions": parsed.instructions,
        "max_output_tokens": parsed.max_output_tokens,
        "max_tool_calls": parsed.max_tool_calls,
        "metadata": parsed.metadata or {},
        "parallel_tool_calls": parsed.parallel_tool_calls is not False,
        "previous_response_id": None,
        "prompt_cache_key": parsed.prompt_cache_key,
        "reasoning": {
            "effort": parsed.reasoning.effort if parsed.reasoning else None,
            "summary": None,
        },
        "safety_identifier": parsed.safety_identifier,
        "store": False,
        "temperature": parsed.temperature,
        "text": {"format": _format_out(parsed.output_format)},
        "tool_choice": _tool_choice_out(parsed.tool_choice),
        "tools": [_tool_out(tool, f"tools.{n}") for n, tool in enumerate(parsed.tools or ())],
        "top_logprobs": parsed.top_logprobs or 0,
        "top_p": parsed.top_p,
        "truncation": "disabled",
        "user": parsed.user,
    }


def _tool_choice_out(choice: Any) -> Any:
    if isinstance(choice, dict):
        return {"type": "function", "name": choice["name"]}
    return choice or "auto"


def _format_out(parsed: FormatIn) -> dict[str, Any]:
    if parsed.json_schema is None:
        return {"type": parsed.type}
    return {
        "type": parsed.type,
        "name": parsed.name,
        "description": parsed.description,
        "schema": raw_json(parsed.json_schema, param="text.format.schema"),
        "strict": True,
    }


def _tool_out(tool: FunctionToolIn, path: str) -> dict[str, Any]:
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": raw_json(tool.parameters, param=f"{path}.parameters"),
        "strict": bool(tool.strict),
    }
