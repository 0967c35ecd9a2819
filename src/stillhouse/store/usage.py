"""Sums over resolved requests, for statements."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, case, func, select

from stillhouse.store.requests import SETTLED, VOIDED
from stillhouse.store.tables import api_key, price_version, request

_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class UsageLine:
    """
    What was used under one heading.

    Args:
        heading: A key's name, a model's id, or a day as YYYY-MM-DD in UTC.
        num_requests: Those that were charged for, at whatever cost.
        num_voided: Those that failed through us and were not charged for.

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
    When requests were admitted.

    Args:
        to_ms: The first moment that is no longer within; None when there is no end.

    """

    from_ms: int = 0
    to_ms: int | None = None


def fetch_by_key(connection: Connection, span: Span, account_id: int | None) -> list[UsageLine]:
    """One row per key; keys that share a name have rows of their own."""
    query = _sums(api_key.c.name, span, account_id).join_from(
        request, api_key, request.c.key_id == api_key.c.id
    )
    return _rows(connection, query.group_by(api_key.c.id, api_key.c.name))


def fetch_by_model(connection: Connection, span: Span, account_id: int | None) -> list[UsageLine]:
    """One row per model, whatever its prices were."""
    query = _sums(price_version.c.model, span, account_id).join_from(
        request, price_version, request.c.price_version == price_version.c.version
    )
    return _rows(connection, query.group_by(price_version.c.model))


def fetch_by_day(connection: Connection, span: Span, account_id: int | None) -> list[UsageLine]:
    """One row per day in UTC on which something was used."""
    day = request.c.created_at_ms // _DAY_MS
    rows = connection.execute(_sums(day, span, account_id).group_by(day).order_by(day))
    return [UsageLine(_iso_day(number), *map(int, sums)) for number, *sums in rows]


def _sums(
    heading: ColumnElement[Any], span: Span, account_id: int | None
) -> Select[tuple[Any, ...]]:
    is_settled = request.c.state == SETTLED

    def total(column: ColumnElement[int]) -> ColumnElement[int]:
        return func.coalesce(func.sum(case((is_settled, column))), 0)

    query = select(
        heading,
        func.count(case((is_settled, 1))),
        func.count(case((request.c.state == VOIDED, 1))),
        total(request.c.prompt_tokens),
        total(request.c.cached_tokens),
        total(request.c.completion_tokens),
        total(request.c.cost_picousd),
    ).where(request.c.created_at_ms >= span.from_ms)
    if span.to_ms is not None:
        query = query.where(request.c.created_at_ms < span.to_ms)
    if account_id is not None:
        query = query.where(request.c.account_id == account_id)
    return query


def _rows(connection: Connection, query: Select[tuple[Any, ...]]) -> list[UsageLine]:
    rows = connection.execute(query)
    return sorted(
        (UsageLine(heading, *map(int, sums)) for heading, *sums in rows),
        key=lambda row: (-row.cost_picousd, row.heading),
    )


def _iso_day(number: int) -> str:
    return datetime.fromtimestamp(number * _DAY_MS / 1000, UTC).date().isoformat()
