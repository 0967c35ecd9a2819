"""Builds usage with its cost in OpenAI's and in Anthropic's JSON; responses and errors carry it."""

from __future__ import annotations

from typing import Literal

from typing_extensions import TypedDict

from stillhouse.types.events import Finish
from stillhouse.types.usage import TokenUsage

# Fields in the order in which they are written.


class CachedTokensOut(TypedDict):
    """A part of the prompt's tokens."""

    cached_tokens: int


class ReasoningTokensOut(TypedDict):
    """A part of the completion's tokens."""

    reasoning_tokens: int


class UsageOut(TypedDict):
    """Usage in DeepInfra's order of keys; `estimated_cost` is in USD."""

    prompt_tokens: int
    total_tokens: int
    completion_tokens: int
    estimated_cost: float | None
    prompt_tokens_details: CachedTokensOut
    completion_tokens_details: ReasoningTokensOut


def usage_out(usage: TokenUsage, cost_picousd: int | None, reasoning_tokens: int) -> UsageOut:
    """Returns usage; the cost is the float nearest to the exact amount."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "total_tokens": usage.total_tokens,
        "completion_tokens": usage.completion_tokens,
        "estimated_cost": None if cost_picousd is None else cost_picousd / 10**12,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": reasoning_tokens},
    }


class AnthropicUsageOut(TypedDict):
    """Usage in Anthropic's count: cached tokens are not among the input tokens."""

    input_tokens: int
    cache_creation_input_tokens: int
    cache_read_input_tokens: int
    output_tokens: int
    service_tier: Literal["standard"]


class ThinkingTokensOut(TypedDict):
    """A part of the output tokens."""

    thinking_tokens: int


class AnthropicFinalUsageOut(AnthropicUsageOut):
    """Usage at the end; `estimated_cost` is in USD."""

    output_tokens_details: ThinkingTokensOut
    estimated_cost: float | None


def anthropic_usage_out(usage: TokenUsage) -> AnthropicUsageOut:
    """Returns the usage so far."""
    return {
        "input_tokens": usage.prompt_tokens - usage.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.completion_tokens,
        "service_tier": "standard",
    }


def anthropic_final_usage_out(finish: Finish) -> AnthropicFinalUsageOut:
    """Returns the final usage; the cost is the float nearest to the exact amount."""
    return {
        **anthropic_usage_out(finish.usage),
        "output_tokens_details": {"thinking_tokens": finish.reasoning_tokens},
        "estimated_cost": None if finish.cost_picousd is None else finish.cost_picousd / 10**12,
    }
