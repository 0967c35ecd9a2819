"""Defines token usage."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """
    The tokens of a request, as the engine counted them.

    Args:
        prompt_tokens: All tokens of the prompt, the cached ones among them.
        cached_tokens: Prompt tokens whose KV blocks were found in the prefix cache.
        completion_tokens: Tokens generated, reasoning and the end token among them.

    """

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        """The tokens of prompt and completion together."""
        return self.prompt_tokens + self.completion_tokens
