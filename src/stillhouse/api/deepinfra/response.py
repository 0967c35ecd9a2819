"""Builds DeepInfra's native responses in JSON: whole, and event by event."""

from __future__ import annotations

from typing import Literal, NotRequired

from typing_extensions import TypedDict

from stillhouse.types.events import ChoiceAnswer, Finish, FinishReason
from stillhouse.types.response_meta import ResponseMeta


class InferenceStatusOut(TypedDict):
    """The outcome of an inference; the cost is in USD, and null until it is charged."""

    status: Literal["succeeded"]
    runtime_ms: int
    cost: float | None
    tokens_generated: int
    tokens_input: int


class GeneratedTextOut(TypedDict):
    """One of the generated texts."""

    generated_text: str


class InferenceOut(TypedDict):
    """A whole response."""

    request_id: str
    inference_status: InferenceStatusOut
    results: list[GeneratedTextOut]
    num_tokens: int
    num_input_tokens: int


class TokenOut(TypedDict):
    """A new token; in the last event there is none, and the id is null."""

    id: int | None
    text: str
    logprob: float | None
    special: bool


class DetailsOut(TypedDict):
    """How a stream ended, in text-generation-inference's values."""

    finish_reason: Literal["length", "eos_token", "stop_sequence"]
    generated_tokens: int
    input_tokens: int


class InferenceEventOut(TypedDict):
    """One event of a stream; only the last one has more than `token`."""

    token: TokenOut
    generated_text: str | None
    details: DetailsOut | None
    request_id: NotRequired[str]
    inference_status: NotRequired[InferenceStatusOut]
    num_tokens: NotRequired[int]
    num_input_tokens: NotRequired[int]


def inference_out(
    meta: ResponseMeta, choices: tuple[ChoiceAnswer, ...], finish: Finish
) -> InferenceOut:
    """Returns a whole response."""
    return {
        "request_id": meta.request_id,
        "inference_status": _status_out(finish),
        "results": [{"generated_text": choice.content} for choice in choices],
        "num_tokens": finish.usage.completion_tokens,
        "num_input_tokens": finish.usage.prompt_tokens,
    }


def token_event(token_id: int, text: str, logprob: float) -> InferenceEventOut:
    """Returns the event of a new token."""
    return {
        "token": {"id": token_id, "text": text, "logprob": logprob, "special": False},
        "generated_text": None,
        "details": None,
    }


def last_event(meta: ResponseMeta, *, rest: str, text: str, finish: Finish) -> InferenceEventOut:
    """
    Returns the event that ends a stream.

    Args:
        rest: The text that no token event had.
        text: The whole text.

    """
    return {
        "token": {"id": None, "text": rest, "logprob": None, "special": not rest},
        "generated_text": text,
        "details": {
            "finish_reason": _finish_reason(finish),
            "generated_tokens": finish.usage.completion_tokens,
            "input_tokens": finish.usage.prompt_tokens,
        },
        "request_id": meta.request_id,
        "inference_status": _status_out(finish),
        "num_tokens": finish.usage.completion_tokens,
        "num_input_tokens": finish.usage.prompt_tokens,
    }


def _status_out(finish: Finish) -> InferenceStatusOut:
    """The cost is the float nearest to the exact amount."""
    cost_picousd = finish.cost_picousd
    return {
        "status": "succeeded",
        "runtime_ms": finish.runtime_ms,
        "cost": None if cost_picousd is None else cost_picousd / 10**12,
        "tokens_generated": finish.usage.completion_tokens,
        "tokens_input": finish.usage.prompt_tokens,
    }


def _finish_reason(finish: Finish) -> Literal["length", "eos_token", "stop_sequence"]:
    if finish.reason is FinishReason.LENGTH:
        return "length"
    return "eos_token" if finish.stop_string is None else "stop_sequence"
