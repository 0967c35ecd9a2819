"""Computes a month's invoice from the ledger's charges."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from stillhouse.billing.statements.month import Month
from stillhouse.billing.statements.usage import UsageGrouping, UsageLine, fetch_usage
from stillhouse.store.database import Database
from stillhouse.store.ledger import statement as rows
from stillhouse.store.ledger.balances import ACCOUNT, Balance
from stillhouse.store.ledger.balances import fetch_all as fetch_balances
from stillhouse.store.ledger.requests import fetch_costs_picousd
from stillhouse.store.ledger.statement import PricedUsage
from stillhouse.store.ledger.usage import Span
from stillhouse.store.ledger.usage_days import day_of


class TokenItem(NamedTuple):
    """Tokens of one kind at one rate, and their cost."""

    kind: str
    num_tokens: int
    rate_picousd: int

    @property
    def amount_picousd(self) -> int:
        """Returns the exact cost: one integer product."""
        return self.num_tokens * self.rate_picousd


@dataclass(frozen=True, slots=True)
class Line:
    """The use of one model by one account at one price version."""

    usage: PricedUsage

    @property
    def items(self) -> tuple[TokenItem, TokenItem, TokenItem]:
        """Returns the tokens of each kind; a prompt's are cached or computed."""
        sums, price = self.usage.sums, self.usage.tariff
        return (
            TokenItem("input", sums.prompt_tokens - sums.cached_tokens, price.input_picousd),
            TokenItem("cached_input", sums.cached_tokens, price.cached_input_picousd),
            TokenItem("output", sums.completion_tokens, price.output_picousd),
        )

    @property
    def cost_picousd(self) -> int:
        """Returns the charged amount."""
        return self.usage.sums.cost_picousd

    @property
    def waived_picousd(self) -> int:
        """Returns the uncharged cost: the excess over the highest cost that was held."""
        return sum(item.amount_picousd for item in self.items) - self.cost_picousd


@dataclass(frozen=True, slots=True)
class Statement:
    """A month's invoice: of one account, of one key, or of all."""

    month: Month
    lines: tuple[Line, ...]

    @property
    def cost_picousd(self) -> int:
        """Returns the exact sum of the lines."""
        return sum(line.cost_picousd for line in self.lines)


class Statements:
    """Computes invoices and sums of charges."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of(
        self, month: Month, *, account_id: int | None = None, key_id: int | None = None
    ) -> Statement:
        """
        Returns the invoice of a month's requests: of an account, of a key, or of all.

        Raises:
            StoreUnavailableError: The ledger cannot be read.

        """
        span = Span(day_of(month.begin_ms), day_of(month.end_ms))
        fetch = partial(rows.fetch_by_price, span=span, account_id=account_id, key_id=key_id)
        used = await self._database.read(fetch)
        return Statement(month, tuple(Line(usage) for usage in used if usage.sums.num_settled))

    async def usage(
        self,
        *,
        by: UsageGrouping,
        from_ms: int = 0,
        to_ms: int | None = None,
        account_id: int | None = None,
    ) -> list[UsageLine]:
        """
        Sums the charges of requests that were admitted in a span of days (UTC).

        Adjoining spans count every request once, whatever their times of day.

        Args:
            from_ms: A moment in the first day.
            to_ms: A moment in the first day after the span; None sums up to now.
            account_id: None sums over all accounts.

        Raises:
            StoreUnavailableError: The ledger cannot be read.

        """
        span = Span(from_day=day_of(from_ms), to_day=None if to_ms is None else day_of(to_ms))
        return await self._database.read(
            partial(fetch_usage, by=by, span=span, account_id=account_id)
        )

    async def balances(self) -> dict[int, Balance]:
        """
        Returns the amounts that each account has spent, holds and may spend, by its id.

        Raises:
            StoreUnavailableError: The ledger cannot be read.

        """
        kept = await self._database.read(fetch_balances)
        return {key.holder_id: balance for key, balance in kept.items() if key.holder == ACCOUNT}

    async def costs_picousd(self, account_id: int, request_ids: Collection[str]) -> dict[str, int]:
        """
        Returns the costs of an account's resolved requests, by request id.

        Raises:
            StoreUnavailableError: The ledger cannot be read.

        """
        fetch = partial(fetch_costs_picousd, account_id=account_id, request_ids=request_ids)
        return await self._database.read(fetch)
