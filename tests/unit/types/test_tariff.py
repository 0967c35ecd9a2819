from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.money import PICOUSD_PER_USD, format_usd
from stillhouse.types.service_tier import ServiceTier
from stillhouse.types.tariff import MAX_PICOUSD_PER_TOKEN, Tariff
from stillhouse.types.usage import TokenUsage
from tests.tariffs import usd_tariff

MAX_TOKENS = 10**9
microusd = st.integers(min_value=0, max_value=MAX_PICOUSD_PER_TOKEN)
microusd_at_base = st.integers(min_value=0, max_value=MAX_PICOUSD_PER_TOKEN * 2 // 3)
tokens = st.integers(min_value=0, max_value=MAX_TOKENS)


def published(microusd: int) -> str:
    """A price in USD per million tokens, as people write it."""
    return f"{microusd // 10**6}.{microusd % 10**6:06d}"


@st.composite
def usages(draw: st.DrawFn) -> TokenUsage:
    prompt_tokens = draw(tokens)
    cached_tokens = draw(st.integers(min_value=0, max_value=prompt_tokens))
    return TokenUsage(prompt_tokens, cached_tokens, draw(tokens))


@given(input_price=microusd, cached_price=microusd, output_price=microusd, usage=usages())
def test_cost_equals_the_fractions_oracle(
    input_price: int, cached_price: int, output_price: int, usage: TokenUsage
) -> None:
    """Cost is exact to the last digit, whatever the prices and counts."""
    tariff = usd_tariff(
        published(input_price), published(output_price), cached_input_usd=published(cached_price)
    )
    oracle_usd = (
        Fraction(published(input_price)) * (usage.prompt_tokens - usage.cached_tokens)
        + Fraction(published(cached_price)) * usage.cached_tokens
        + Fraction(published(output_price)) * usage.completion_tokens
    ) / 10**6
    assert oracle_usd * PICOUSD_PER_USD == tariff.cost_picousd(usage)


@given(
    input_price=microusd,
    cached_price=microusd,
    output_price=microusd,
    usage=usages(),
    unused_tokens=tokens,
)
def test_ceiling_covers_every_cost(
    input_price: int, cached_price: int, output_price: int, usage: TokenUsage, unused_tokens: int
) -> None:
    """What is held is never less than what can be charged, and fits into 64 bits."""
    tariff = Tariff(
        input_picousd=input_price, cached_input_picousd=cached_price, output_picousd=output_price
    )
    ceiling = tariff.ceiling_picousd(
        prompt_tokens=usage.prompt_tokens,
        max_tokens=min(usage.completion_tokens + unused_tokens, MAX_TOKENS),
    )
    assert tariff.cost_picousd(usage) <= ceiling < 2**63


def test_seed_example_costs_what_deepinfra_says() -> None:
    """149 prompt and 338 completion tokens at $0.59 and $0.79 per million cost $0.00035493."""
    tariff = usd_tariff("0.59", "0.79")
    cost_picousd = tariff.cost_picousd(TokenUsage(prompt_tokens=149, completion_tokens=338))
    assert "$0.00035493" == format_usd(cost_picousd)


def test_cached_tokens_cost_as_input_unless_priced() -> None:
    """A model without a price for cached input charges it as input."""
    tariff = usd_tariff("0.20", "0.60")
    assert 200_000 == tariff.cached_input_picousd


def test_free_cached_input_is_not_unpriced() -> None:
    """A published price of 0 is a price, not a missing one."""
    tariff = usd_tariff("0.2", "0.6", cached_input_usd="0")
    assert 0 == tariff.cached_input_picousd


@pytest.mark.parametrize(
    "usage", [TokenUsage(-1, 0, 0), TokenUsage(1, 2, 0), TokenUsage(1, -1, 0), TokenUsage(1, 0, -1)]
)
def test_impossible_counts_are_refused(usage: TokenUsage) -> None:
    """Counts that no engine can mean are never charged."""
    tariff = usd_tariff("0.20", "0.60")
    with pytest.raises(ValueError, match="cannot be"):
        tariff.cost_picousd(usage)


@pytest.mark.parametrize("price", [-1, MAX_PICOUSD_PER_TOKEN + 1])
def test_price_out_of_range_is_refused(price: int) -> None:
    """A price that is negative, or so high that a cost might not fit into 64 bits, is refused."""
    with pytest.raises(ValueError, match="pico-dollars"):
        Tariff(input_picousd=0, cached_input_picousd=0, output_picousd=price)


@given(price=microusd_at_base)
def test_tier_factor_rounds_half_up_at_the_token(price: int) -> None:
    """A tier's price is its factor's, to the nearest pico-dollar per token, halves upward."""
    tariff = Tariff(input_picousd=price, cached_input_picousd=price, output_picousd=price)
    for tier, factor in (
        (ServiceTier.PRIORITY, Fraction(3, 2)),
        (ServiceTier.FLEX, Fraction(4, 5)),
    ):
        rounding = tariff.on(tier).output_picousd - price * factor
        assert -Fraction(1, 2) < rounding <= Fraction(1, 2)


def test_default_tier_changes_nothing() -> None:
    """A tariff on the default tier is the tariff."""
    tariff = usd_tariff("0.20", "0.60")
    assert tariff == tariff.on(ServiceTier.DEFAULT)
