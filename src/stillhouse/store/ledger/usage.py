"""Sums over resolved requests, for statements."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, func, select

from stillhouse.store.ledger.usage_days import DaySums
from stillhouse.store.tables import api_key, price_version, usage_day

_EPOCH = date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class UsageLine:
    """
    The use under one heading.

    Args:
        heading: A key's name, a model's id, or a day as YYYY-MM-DD in UTC.
        num_requests: The number of charged requests, at whatever cost.
        num_voided: The number of requests that failed on the server and were not charged.

    Tokens are those of charged requests.

    """

    heading: str
    num_requests: int
    num_voided: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    cost_picousd: int


@dataclass(frozen=True, slots=True)
class Span:
    """
    Days on which requests were admitted, counted from 1970 in UTC.

    Args:
        to_day: The first day that is no longer within; None when there is no end.

    """

    from_day: int = 0
    to_day: int | None = None


def fetch_by_key(connection: Connection, span: Span, account_id: int | None) -> list[UsageLine]:
    """Returns one line per key; keys of the same name have separate lines."""
    query = _sums(api_key.c.name, span, account_id).group_by(api_key.c.id, api_key.c.name)
    return _dearest_first(connection, query)


def fetch_by_model(connection: Connection, span: Span, account_id: int | None) -> list[UsageLine]:
    """Returns one line per model, over all its prices."""
    query = _sums(price_version.c.model, span, account_id).join_from(
        usage_day, price_version, usage_day.c.price_version == price_version.c.version
    )
    return _dearest_first(connection, query.group_by(price_version.c.model))


def fetch_by_day(connection: Connection, span: Span, account_id: int | None) -> list[UsageLine]:
    """Returns one line per day with requests."""
    query = _sums(usage_day.c.day, span, account_id).group_by(usage_day.c.day)
    rows = connection.execute(query.order_by(usage_day.c.day))
    return [
        UsageLine((_EPOCH + timedelta(days=day)).isoformat(), *map(int, sums))
        for day, *sums in rows
    ]


def _sums(
    heading: ColumnElement[Any], span: Span, account_id: int | None
) -> Select[*tuple[Any, ...]]:
    sums = (func.sum(usage_day.c[name]) for name in DaySums._fields)
    query = (
        select(heading, *sums)
        .join_from(usage_day, api_key, usage_day.c.key_id == api_key.c.id)
        .where(usage_day.c.day >= span.from_day)
    )
    if span.to_day is not None:
        query = query.where(usage_day.c.day < span.to_day)
    if account_id is not None:
        query = query.where(api_key.c.account_id == account_id)
    return query


def _dearest_first(connection: Connection, query: Select[*tuple[Any, ...]]) -> list[UsageLine]:
    rows = connection.execute(query)
    return sorted(
        (UsageLine(heading, *map(int, sums)) for heading, *sums in rows),
        key=lambda line: (-line.cost_picousd, line.heading),
    )
