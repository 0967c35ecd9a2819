"""Sections ``[limits]`` and ``[token_counts]`` of the configuration."""

from __future__ import annotations

from pydantic import Field

from stillhouse.settings import Section


class RateLimitsConfig(Section):
    """
    Section ``[limits]``: what every account may ask of every model.

    Args:
        max_outstanding: Requests in flight.
        max_outstanding_per_key: Those of one API key, so that none takes all of its account's;
            None leaves them to the account's own limit.
        requests_per_minute: None is without limit.
        tokens_per_minute: Of prompts and completions together; None is without limit.

    """

    max_outstanding: int = Field(default=200, ge=1)
    max_outstanding_per_key: int | None = Field(default=None, ge=1)
    requests_per_minute: int | None = Field(default=None, ge=1)
    tokens_per_minute: int | None = Field(default=None, ge=1)


class TokenCountsConfig(Section):
    """Section ``[token_counts]``: how often one account may count the tokens of a prompt."""

    max_outstanding: int = Field(default=16, ge=1)
    requests_per_minute: int | None = Field(default=1200, ge=1)

    @property
    def rate_limits(self) -> RateLimitsConfig:
        """The same bounds as rate limits."""
        return RateLimitsConfig(**self.model_dump())
