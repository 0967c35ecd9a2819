"""Describes a price version: the cost of a model's tokens from a moment on."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Self

from stillhouse.store.ledger.prices import PriceRow
from stillhouse.types.service_tier import ServiceTier
from stillhouse.types.tariff import Tariff


@dataclass(frozen=True, slots=True, kw_only=True)
class Price(Tariff):
    """
    A model's tariff from a moment on, as published in the ledger.

    A request is charged by the version that it was admitted under, whatever is published later.
    """

    version: int
    model: str
    tier: ServiceTier

    @classmethod
    def of(cls, row: PriceRow) -> Self:
        """Returns the price in a row of the store."""
        return cls(
            version=row.version,
            model=row.model,
            tier=ServiceTier(row.service_tier),
            **asdict(row.tariff),
        )
