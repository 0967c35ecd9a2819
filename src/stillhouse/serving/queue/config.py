"""Section ``[queue]`` of the configuration."""

from __future__ import annotations

from pydantic import Field

from stillhouse.settings import Section
from stillhouse.types.service_tier import ServiceTier


class QueueConfig(Section):
    """
    How many requests a model's queue holds, and how long each waits.

    Args:
        max_outstanding: Requests per model, waiting and running, of all accounts; the last eighth
            is for accounts that have few, and within an account's part for keys that have few.
        max_wait_s: Longest wait of a request of the tiers priority and default.
        flex_max_wait_s: Longest wait of a request of the tier flex.
        prompt_window_tokens: Prompt tokens that an engine is given before it has computed them.

    """

    max_outstanding: int = Field(default=288, ge=1)
    max_wait_s: float = Field(default=60, ge=0)
    flex_max_wait_s: float = Field(default=600, ge=0)
    prompt_window_tokens: int = Field(default=4096, ge=1)

    def max_wait_of(self, tier: ServiceTier) -> float:
        """Returns how long a request of *tier* waits at most, in seconds."""
        return self.flex_max_wait_s if tier is ServiceTier.FLEX else self.max_wait_s
