"""Records the acceptance of one sequence's draft tokens."""

from __future__ import annotations

#: Acceptance rates: of first draft tokens after 2, 3, or more matched ones, and of later ones.
FIRST_RATES = (0.3, 0.5, 0.7, 0.8)
FIRST_CREDIT = 1.5  # tokens
#: Tokens for a draft token, whatever a step seems to take for it.
PRICES = (0.25, 1.0)


class DraftRecord:
    """
    Records how many draft tokens of one sequence were accepted.

    Attributes:
        rates: Recent acceptance rates, as in `FIRST_RATES`.
        credit: The balance of their gains and costs, in tokens.
        price: Cost of each draft token of the last step, in tokens.

    """

    __slots__ = ("credit", "price", "rates")

    def __init__(self, rates: list[float]) -> None:
        self.rates = list(rates)
        self.credit = FIRST_CREDIT
        self.price = PRICES[0]
