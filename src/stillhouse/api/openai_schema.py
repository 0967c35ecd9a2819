"""OpenAI's JSON in DeepInfra's dialect, to and from the words of ``stillhouse.chat``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from stillhouse.api.faults import brief, first_fault
from stillhouse.chat import (
    ChatRequest,
    Finish,
    Message,
    Role,
    SamplingWishes,
    ServiceTier,
    TokenUsage,
)
from stillhouse.errors import InvalidRequestError

MAX_MESSAGES = 4096
MAX_PARTS = 1024
MAX_STOP_SEQUENCES = 16


class TextPart(BaseModel):
    """One part of a message given as a list."""

    model_config = ConfigDict(extra="ignore")

    type: Literal["text"]
    text: str


def _as_parts(content: object) -> object:
    if isinstance(content, str):
        return [TextPart(type="text", text=content)]
    if isinstance(content, list):
        return content
    raise ValueError("should be a string or a list of text parts")


class MessageIn(BaseModel):
    """One message of the request; every role may give its content as text parts."""

    model_config = ConfigDict(extra="ignore")

    role: Role
    content: Annotated[list[TextPart], BeforeValidator(_as_parts), Field(max_length=MAX_PARTS)]

    def to_message(self) -> Message:
        """The message with its parts joined."""
        return Message(self.role, "".join(part.text for part in self.content))


class StreamOptions(BaseModel):
    """
    Where a stream carries usage.

    Args:
        include_usage: None is DeepInfra's way, on the chunk with finish_reason; True is OpenAI's, a
            chunk of its own with no choices; False leaves it out.
        continuous_usage_stats: Usage so far on every chunk.

    """

    model_config = ConfigDict(extra="ignore")

    include_usage: bool | None = None
    continuous_usage_stats: bool = False


def _one_or_many(stop: object) -> object:
    return [stop] if isinstance(stop, str) else stop or []


class ChatCompletionIn(BaseModel):
    """
    The body of a chat completion, with DeepInfra's ranges.

    Unknown fields are let through, as OpenAI's clients send some; known ones that are not built yet
    are refused unless their value asks for nothing.
    """

    model_config = ConfigDict(extra="allow", strict=True)

    model: str = Field(min_length=1, max_length=256)
    messages: Annotated[list[MessageIn], Field(min_length=1, max_length=MAX_MESSAGES, strict=False)]
    stream: bool | None = None
    stream_options: Annotated[StreamOptions | None, Field(strict=False)] = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=0, lt=1000)
    min_p: float | None = Field(default=None, ge=0, le=1)
    max_tokens: int | None = Field(default=None, ge=0, le=1_000_000)
    max_completion_tokens: int | None = Field(default=None, ge=0, le=1_000_000)
    stop: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=1024)]],
        BeforeValidator(_one_or_many),
        Field(max_length=MAX_STOP_SEQUENCES),
    ] = []
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**64)
    user: str | None = None
    service_tier: Literal["auto", "default", "priority", "flex"] | None = None

    @model_validator(mode="after")
    def _refuse_what_is_not_built(self) -> ChatCompletionIn:
        for name, value in (self.model_extra or {}).items():
            if name in _NOT_BUILT and value not in _NOT_BUILT[name]:
                raise InvalidRequestError(
                    f"{name} is not supported yet, got {brief(value)}; leave it out", param=name
                )
        return self

    def to_request(self) -> ChatRequest:
        """The request in the words of ``stillhouse.chat``."""
        return ChatRequest(
            model=self.model,
            messages=tuple(message.to_message() for message in self.messages),
            sampling=SamplingWishes(
                temperature=self.temperature,
                top_p=self.top_p,
                top_k=self.top_k,
                min_p=self.min_p,
                seed=self.seed,
            ),
            max_tokens=self._max_tokens(),
            stop=tuple(self.stop),
            tier=ServiceTier.DEFAULT
            if self.service_tier in {None, "auto"}
            else ServiceTier(self.service_tier),
        )

    def _max_tokens(self) -> int | None:
        old, new = self.max_tokens, self.max_completion_tokens
        if old is not None and new is not None and old != new:
            raise InvalidRequestError(
                f"max_tokens {old} and max_completion_tokens {new} differ; give one of them",
                param="max_completion_tokens",
            )
        return new if old is None else old


# Known fields of DeepInfra or OpenAI that are not built yet, with the values that ask for nothing.
_NOT_BUILT: dict[str, tuple[object, ...]] = {
    "n": (None, 1),
    "presence_penalty": (None, 0),
    "frequency_penalty": (None, 0),
    "repetition_penalty": (None, 1),
    "tools": (None, []),
    "tool_choice": (None, "none", "auto"),
    "functions": (None, []),
    "function_call": (None, "none", "auto"),
    "response_format": (None, {"type": "text"}),
    "logprobs": (None, False),
    "top_logprobs": (None, 0),
    "logit_bias": (None, {}),
    "reasoning_effort": (None,),
    "reasoning": (None, {}),
    "prompt_cache_options": (None,),
    "chat_template_kwargs": (None, {}),
    "chat_template": (None,),
    "fail_fast": (None, False),
    "modalities": (None, ["text"]),
    "audio": (None,),
}


def parse_chat_completion(body: bytes) -> ChatCompletionIn:
    """
    The typed request in *body*.

    Raises:
        InvalidRequestError: It is not JSON, or a field is missing, of the wrong type or range.

    """
    try:
        return ChatCompletionIn.model_validate_json(body)
    except ValidationError as error:
        raise first_fault(error) from error


def usage_out(usage: TokenUsage, cost_picousd: int | None) -> dict[str, Any]:
    """Usage in DeepInfra's order of keys; the cost is the float nearest to the exact amount."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "total_tokens": usage.total_tokens,
        "completion_tokens": usage.completion_tokens,
        "estimated_cost": None if cost_picousd is None else cost_picousd / 10**12,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def completion_out(  # noqa: PLR0913  (the fields of the answer)
    *,
    completion_id: str,
    created: int,
    model: str,
    content: str,
    reasoning: str,
    finish: Finish,
    service_tier: str | None = None,
) -> dict[str, Any]:
    """
    A whole answer; `reasoning_content` is there when the model reasoned.

    Args:
        service_tier: The one that was used, where the request has asked for one.

    """
    message: dict[str, Any] = {"role": "assistant", "content": content}
    if reasoning:
        message["reasoning_content"] = reasoning
    message |= {"name": None, "tool_calls": None}
    return {
        "id": completion_id,
        "object": "chat.completion",
        "created": created,
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": finish.reason}],
        "usage": usage_out(finish.usage, finish.cost_picousd),
        **({"service_tier": service_tier} if service_tier else {}),
    }
