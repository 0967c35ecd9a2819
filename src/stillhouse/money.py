"""
Money as integers.

A price of 1 micro-dollar per million tokens is 1 pico-dollar (1e-12 USD) per token, so that a cost
is one integer product and nothing is ever rounded on the way.
"""

from __future__ import annotations

from decimal import Context, Decimal, Inexact, InvalidOperation

PICOUSD_PER_USD = 10**12
MICROUSD_PER_USD = 10**6

#: Raises where the usual one, of 28 digits, would round.
_EXACT = Context(prec=40, traps=[Inexact, InvalidOperation])

#: The largest single amount: a ninth of what 64 bits hold.
MAX_PICOUSD = 10**6 * PICOUSD_PER_USD


def price_picousd_per_token(usd_per_million_tokens: str | Decimal) -> int:
    """
    The integer price of one token, from the way that prices are published.

    Args:
        usd_per_million_tokens: For example ``"0.60"``; a string or Decimal, as a float has already
            lost what was written.

    Raises:
        ValueError: The price is negative, not a number, or finer than a pico-dollar per token.

    """
    try:
        price = _EXACT.multiply(Decimal(usd_per_million_tokens), MICROUSD_PER_USD)
    except (InvalidOperation, Inexact) as error:
        raise ValueError(
            f"{usd_per_million_tokens!r} is not a price in USD that can be charged exactly"
        ) from error
    if not price.is_finite() or price < 0 or price != price.to_integral_value():
        raise ValueError(
            f"price {usd_per_million_tokens} USD per million tokens must be at least 0 and have "
            "at most six decimals"
        )
    return int(price)


def picousd(usd: str | Decimal) -> int:
    """
    Parses an amount in dollars to integer pico-dollars.

    Args:
        usd: For example ``"12.50"``; a string or Decimal, as a float has already lost what was
            written.

    Raises:
        ValueError: It is negative, above what the ledger can hold, not a number, or finer than a
            pico-dollar.

    """
    try:
        amount = _EXACT.multiply(Decimal(usd), PICOUSD_PER_USD)
        if 0 <= amount <= MAX_PICOUSD and amount == amount.to_integral_value():
            return int(amount)
    except (InvalidOperation, Inexact):
        pass
    raise ValueError(
        f"{usd} USD must be from 0 to {MAX_PICOUSD // PICOUSD_PER_USD}, with at most 12 decimals"
    )


def usd(picousd: int) -> Decimal:
    """The exact amount in dollars, without trailing zeros."""
    return (Decimal(picousd) / PICOUSD_PER_USD).normalize()


def half_up(picousd: int, unit_picousd: int) -> int:
    """An amount in coarser units, for interfaces that have no finer ones; a half goes up."""
    return (picousd + unit_picousd // 2) // unit_picousd


def format_usd(picousd: int) -> str:
    """The exact amount as plain digits, for people: ``$0.0000126``."""
    sign = "-" if picousd < 0 else ""
    return f"{sign}${abs(usd(picousd)):f}"
