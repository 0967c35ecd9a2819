"""Tariffs as prices are published."""

from __future__ import annotations

from stillhouse.catalogue.entry import Prices
from stillhouse.types.tariff import Tariff


def usd_tariff(input_usd: str, output_usd: str, *, cached_input_usd: str | None = None) -> Tariff:
    """Returns the tariff of prices in USD per million tokens."""
    prices = {"input": input_usd, "output": output_usd, "cached_input": cached_input_usd}
    return Prices.model_validate(prices).tariff()
