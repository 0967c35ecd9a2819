from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.money import (
    MAX_PICOUSD,
    PICOUSD_PER_USD,
    format_usd,
    half_up,
    picousd,
    price_picousd_per_token,
    usd,
)


@given(microusd=st.integers(min_value=0, max_value=10**9))
def test_price_per_million_tokens_is_pico_dollars_per_token(microusd: int) -> None:
    """A price with up to six decimals becomes the very integer that one token costs."""
    published = Decimal(microusd) / 10**6
    exact = Fraction(published) / 10**6 * PICOUSD_PER_USD
    assert exact == price_picousd_per_token(published)
    assert exact == price_picousd_per_token(str(published))


@pytest.mark.parametrize(
    "price", ["-0.01", "0.0000001", "NaN", "Infinity", "", "cheap", f"0.1{'0' * 40}1"]
)
def test_price_that_is_not_a_whole_pico_dollar_is_refused(price: str) -> None:
    """What cannot be charged exactly, or is no price at all, is refused and not rounded."""
    with pytest.raises(ValueError, match="price"):
        price_picousd_per_token(price)


@given(picousd=st.integers(min_value=-(10**18), max_value=10**18))
def test_usd_is_exact(picousd: int) -> None:
    """Pico-dollars become dollars without losing a digit."""
    assert Fraction(picousd, PICOUSD_PER_USD) == Fraction(usd(picousd))


@pytest.mark.parametrize(
    ("picousd", "text"),
    [
        (0, "$0"),
        (12_600_000, "$0.0000126"),
        (354_930_000, "$0.00035493"),
        (1, "$0.000000000001"),
        (-2_500_000_000_000, "-$2.5"),
        (10 * PICOUSD_PER_USD, "$10"),
    ],
)
def test_format_usd_shows_plain_digits(picousd: int, text: str) -> None:
    """People see dollars without exponents and without zeros at the end."""
    assert text == format_usd(picousd)


@given(st.integers(min_value=0, max_value=MAX_PICOUSD))
def test_amounts_are_read_exactly(amount_picousd: int) -> None:
    """An amount that was written in full is read back to the pico-dollar."""
    assert amount_picousd == picousd(f"{usd(amount_picousd):f}")


@pytest.mark.parametrize(
    "amount",
    ["", "x", "-0.01", "NaN", "sNaN", "-Infinity", "1e-13", "1000000.000000000001", "1e1000000"],
)
def test_what_is_no_amount(amount: str) -> None:
    """What is no number, negative, finer than a pico-dollar or more than there is is refused."""
    with pytest.raises(ValueError, match="USD must be from 0"):
        picousd(amount)


@pytest.mark.parametrize(
    ("amount_picousd", "nanousd"),
    [(0, 0), (499, 0), (500, 1), (1499, 1), (1500, 2), (10**15, 10**12)],
)
def test_half_goes_up(amount_picousd: int, nanousd: int) -> None:
    """In a coarser unit an amount is the nearest one, and of two as near the larger."""
    assert nanousd == half_up(amount_picousd, 1000)
