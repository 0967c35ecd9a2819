"""Defines the service tiers."""

from __future__ import annotations

from enum import StrEnum


class ServiceTier(StrEnum):
    """How soon a request's turn comes, and by how much that changes its price."""

    DEFAULT = "default"
    #: Goes first.
    PRIORITY = "priority"
    #: Waits until there is room.
    FLEX = "flex"
