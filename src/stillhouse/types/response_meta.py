"""What every part of an answer carries, and what is known of it while it comes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from stillhouse.types.service_tier import ServiceTier
from stillhouse.types.usage import TokenUsage


@dataclass(frozen=True, slots=True)
class ResponseMeta:
    """
    What every part of an answer carries.

    Args:
        created_s: Unix seconds; when the request was admitted.
        tier: The one that was really used, and that is charged.
        n: How many answers there are.

    """

    request_id: str
    created_s: int
    model_id: str
    tier: ServiceTier
    n: int


class ResponseProgress(Protocol):
    """What is known of an answer while it comes."""

    @property
    def usage(self) -> TokenUsage:
        """What it has used."""
        ...

    @property
    def cost_so_far_picousd(self) -> int:
        """What that costs."""
        ...

    @property
    def reasoning_tokens(self) -> int:
        """How many of its tokens were reasoning."""
        ...
