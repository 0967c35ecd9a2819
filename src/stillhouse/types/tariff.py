"""Computes what tokens cost, from three integer prices."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from stillhouse.types.service_tier import ServiceTier
from stillhouse.types.usage import TokenUsage

#: 1000 USD per million tokens; keeps every product below with a billion tokens within 64 bits.
MAX_PICOUSD_PER_TOKEN = 10**9


#: DeepInfra's factors (deepinfra.com/blog/priority-service-tier).
_FACTORS = {
    ServiceTier.DEFAULT: Fraction(1),
    ServiceTier.PRIORITY: Fraction(3, 2),
    ServiceTier.FLEX: Fraction(4, 5),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tariff:
    """
    The price of one token of each kind, in pico-dollars.

    Args:
        input_picousd: Of a prompt token that was computed.
        cached_input_picousd: Of a prompt token that was found in the prefix cache.
        output_picousd: Of a generated token.

    """

    input_picousd: int
    cached_input_picousd: int
    output_picousd: int

    def __post_init__(self) -> None:
        for price in (self.input_picousd, self.cached_input_picousd, self.output_picousd):
            if not 0 <= price <= MAX_PICOUSD_PER_TOKEN:
                raise ValueError(
                    f"a token's price must be from 0 to {MAX_PICOUSD_PER_TOKEN} pico-dollars, "
                    f"not {price}"
                )

    def on(self, tier: ServiceTier) -> Tariff:
        """
        Returns the tariff on a service tier.

        The one place where money is rounded, half a pico-dollar per token upward; a price with at
        most five decimals in USD per million tokens needs no rounding.
        """
        return Tariff(
            input_picousd=_half_up(self.input_picousd * _FACTORS[tier]),
            cached_input_picousd=_half_up(self.cached_input_picousd * _FACTORS[tier]),
            output_picousd=_half_up(self.output_picousd * _FACTORS[tier]),
        )

    def cost_picousd(self, usage: TokenUsage) -> int:
        """
        Returns the exact cost of *usage*: three integer products, nothing is rounded.

        Raises:
            ValueError: Counts that cannot be, which an engine must never report.

        """
        if usage.completion_tokens < 0 or not 0 <= usage.cached_tokens <= usage.prompt_tokens:
            raise ValueError(f"{usage} cannot be: counts are positive and cached is within prompt")
        return (
            (usage.prompt_tokens - usage.cached_tokens) * self.input_picousd
            + usage.cached_tokens * self.cached_input_picousd
            + usage.completion_tokens * self.output_picousd
        )

    def ceiling_picousd(self, *, prompt_tokens: int, max_tokens: int) -> int:
        """Returns the highest cost of a request, whatever is cached and wherever it stops."""
        dearest_input_picousd = max(self.input_picousd, self.cached_input_picousd)
        return prompt_tokens * dearest_input_picousd + max_tokens * self.output_picousd


def _half_up(amount: Fraction) -> int:
    return math.floor(amount + Fraction(1, 2))
