"""Reads the rows of an invoice: accounts' use at each price."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from stillhouse.store.backends.timeouts import extend_timeout
from stillhouse.store.ledger.prices import TARIFF_COLUMNS, read_tariff
from stillhouse.store.ledger.usage import Span
from stillhouse.store.ledger.usage_days import DaySums
from stillhouse.store.tables import account, api_key, price_version, usage_day
from stillhouse.types.tariff import Tariff


@dataclass(frozen=True, slots=True)
class PricedUsage:
    """
    The use of one model by one account at one price version.

    Args:
        account: Its name.

    """

    account: str
    model: str
    price_version: int
    service_tier: str
    tariff: Tariff
    sums: DaySums


def fetch_by_price(
    connection: Connection, span: Span, *, account_id: int | None = None, key_id: int | None = None
) -> list[PricedUsage]:
    """Returns a row per account, model and price version; of one account, one key or all."""
    extend_timeout(connection)
    about = (
        account.c.name,
        price_version.c.model,
        price_version.c.version,
        price_version.c.service_tier,
        *(price_version.c[name] for name in TARIFF_COLUMNS),
    )
    query = (
        select(*about, *(func.sum(usage_day.c[name]) for name in DaySums._fields))
        .join_from(usage_day, api_key, usage_day.c.key_id == api_key.c.id)
        .join(account, api_key.c.account_id == account.c.id)
        .join(price_version, usage_day.c.price_version == price_version.c.version)
        .where(usage_day.c.day >= span.from_day)
        .group_by(account.c.id, *about)
        .order_by(account.c.name, price_version.c.model, price_version.c.version)
    )
    if span.to_day is not None:
        query = query.where(usage_day.c.day < span.to_day)
    if account_id is not None:
        query = query.where(api_key.c.account_id == account_id)
    if key_id is not None:
        query = query.where(usage_day.c.key_id == key_id)
    return [
        PricedUsage(name, model, version, tier, read_tariff(row[:3]), DaySums(*map(int, row[3:])))
        for name, model, version, tier, *row in connection.execute(query)
    ]
