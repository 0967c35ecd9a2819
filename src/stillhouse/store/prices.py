"""Price versions: rows that are never changed, only followed by newer ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, insert, select

from stillhouse.store.tables import price_version


class TokenPrices(NamedTuple):
    """What one token of each kind costs, in pico-dollars."""

    input_picousd: int
    cached_input_picousd: int
    output_picousd: int


@dataclass(frozen=True, slots=True)
class PriceRow:
    """A model's prices from a moment on."""

    version: int
    model: str
    service_tier: str
    per_token: TokenPrices


_SELECT_NEWEST = (
    select(
        price_version.c.version,
        price_version.c.input_picousd,
        price_version.c.cached_input_picousd,
        price_version.c.output_picousd,
    )
    .where(
        price_version.c.model == bindparam("of_model"),
        price_version.c.service_tier == bindparam("of_tier"),
    )
    .order_by(price_version.c.version.desc())
    .limit(1)
)


def fetch_newest(connection: Connection, model: str, service_tier: str) -> PriceRow | None:
    """The price that holds for *model* on a tier now."""
    row = connection.execute(
        _SELECT_NEWEST, {"of_model": model, "of_tier": service_tier}
    ).one_or_none()
    return PriceRow(row[0], model, service_tier, TokenPrices(*row[1:])) if row else None


def insert_version(
    connection: Connection,
    *,
    model: str,
    service_tier: str,
    per_token: TokenPrices,
    valid_from_ms: int,
) -> PriceRow:
    """Insert the price that holds for *model* on a tier from now on."""
    row = {
        "model": model,
        "service_tier": service_tier,
        **per_token._asdict(),
        "valid_from_ms": valid_from_ms,
    }
    query = insert(price_version).returning(price_version.c.version)
    version = connection.execute(query, row).scalar_one()
    return PriceRow(version, model, service_tier, per_token)
