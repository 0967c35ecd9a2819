"""Sums use and charges from the ledger's requests."""

from __future__ import annotations

from enum import StrEnum

from stillhouse.store.backends.timeouts import extend_timeout
from stillhouse.store.database import Connection
from stillhouse.store.ledger import usage as rows
from stillhouse.store.ledger.usage import Span, UsageLine

__all__ = ["Span", "UsageGrouping", "UsageLine", "fetch_usage"]


class UsageGrouping(StrEnum):
    """The grouping of a usage report's lines."""

    KEY = "key"
    MODEL = "model"
    DAY = "day"


_FETCH = {
    UsageGrouping.KEY: rows.fetch_by_key,
    UsageGrouping.MODEL: rows.fetch_by_model,
    UsageGrouping.DAY: rows.fetch_by_day,
}


def fetch_usage(
    connection: Connection, by: UsageGrouping, span: Span, account_id: int | None
) -> list[UsageLine]:
    """Sums the requests of one account, or of all, that were admitted within *span*."""
    extend_timeout(connection)
    return _FETCH[by](connection, span, account_id)
