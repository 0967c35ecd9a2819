"""Defines the requests for a chat completion and for a text completion."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from enum import StrEnum

from stillhouse.types.messages import Message, Tool, ToolChoice
from stillhouse.types.response_format import ResponseFormat
from stillhouse.types.sampling import SamplingOverrides
from stillhouse.types.service_tier import ServiceTier

_NO_OVERRIDES = SamplingOverrides()
_DEFAULT_TOOL_CHOICE = ToolChoice()


class Effort(StrEnum):
    """The amount of reasoning before an answer."""

    NONE = "none"
    MINIMAL = "minimal"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    XHIGH = "xhigh"
    MAX = "max"


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """
    The fields that all requests for a completion share, whatever their API.

    Args:
        max_tokens: Most tokens to generate; None takes what the context leaves, up to 16384.
        stop: The answer ends before any of these texts.
        stop_token_ids: Any of these tokens ends the answer, beside the model's own.
        n: How many answers to give.
        top_logprobs: How many of the likeliest tokens to report for each position, with their log
            probabilities, beside the sampled one; None reports nothing.
        fail_fast: Refuse at once what could not start at once.

    """

    model: str
    _: KW_ONLY
    sampling: SamplingOverrides = _NO_OVERRIDES
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    n: int = 1
    top_logprobs: int | None = None
    response_format: ResponseFormat | None = None
    tier: ServiceTier = ServiceTier.DEFAULT
    fail_fast: bool = False


@dataclass(frozen=True, slots=True)
class ChatRequest(GenerationRequest):
    """
    A conversation to be continued by the assistant.

    Args:
        messages: Where the last one is the assistant's, it is continued.
        effort: The amount of reasoning; None leaves it to the model.

    """

    messages: tuple[Message, ...]
    _: KW_ONLY
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = _DEFAULT_TOOL_CHOICE
    effort: Effort | None = None


@dataclass(frozen=True, slots=True)
class TextRequest(GenerationRequest):
    """
    A text to be continued as it stands: the caller is its own chat template.

    Args:
        prompt: Text, in which special tokens are special, or token ids.
        echo: The answer begins with the prompt.

    """

    prompt: str | tuple[int, ...]
    _: KW_ONLY
    echo: bool = False
