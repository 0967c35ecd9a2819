"""Defines the metadata of a response, and its progress while it streams."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from stillhouse.types.service_tier import ServiceTier
from stillhouse.types.usage import TokenUsage


@dataclass(frozen=True, slots=True)
class ResponseMeta:
    """
    The metadata that every part of a response carries.

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
    """The progress of a response while it streams."""

    @property
    def usage(self) -> TokenUsage:
        """The tokens used so far."""
        ...

    @property
    def cost_so_far_picousd(self) -> int:
        """The cost so far."""
        ...

    @property
    def reasoning_tokens(self) -> int:
        """The number of reasoning tokens so far."""
        ...
