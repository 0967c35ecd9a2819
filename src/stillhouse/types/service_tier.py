"""Defines the service tiers."""

from __future__ import annotations

from enum import StrEnum


class ServiceTier(StrEnum):
    """The priority of a request in the queue, which also changes its price."""

    DEFAULT = "default"
    #: Goes first.
    PRIORITY = "priority"
    #: Runs where capacity is free.
    FLEX = "flex"
