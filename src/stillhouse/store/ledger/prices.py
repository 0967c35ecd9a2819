"""Reads and inserts price versions, which are never changed, only followed by newer ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

from sqlalchemy import Connection, bindparam, insert, select

from stillhouse.store.tables import price_version
from stillhouse.types.tariff import Tariff

#: The columns of `price_version` that make a tariff, in the order that `read_tariff` takes them.
TARIFF_COLUMNS = tuple(field.name for field in fields(Tariff))


@dataclass(frozen=True, slots=True)
class PriceRow:
    """A model's prices from a moment on."""

    version: int
    model: str
    service_tier: str
    tariff: Tariff


def read_tariff(row: Sequence[int]) -> Tariff:
    """Returns the tariff in the values of `TARIFF_COLUMNS`."""
    return Tariff(**dict(zip(TARIFF_COLUMNS, row, strict=True)))


_SELECT_NEWEST = (
    select(
        price_version.c.version,
        *(price_version.c[name] for name in TARIFF_COLUMNS),
    )
    .where(
        price_version.c.model == bindparam("of_model"),
        price_version.c.service_tier == bindparam("of_tier"),
    )
    .order_by(price_version.c.version.desc())
    .limit(1)
)


def fetch_newest(connection: Connection, model: str, service_tier: str) -> PriceRow | None:
    """Returns the present price of *model* on a tier."""
    row = connection.execute(
        _SELECT_NEWEST, {"of_model": model, "of_tier": service_tier}
    ).one_or_none()
    return PriceRow(row[0], model, service_tier, read_tariff(row[1:])) if row else None


def insert_version(
    connection: Connection,
    *,
    model: str,
    service_tier: str,
    tariff: Tariff,
    valid_from_ms: int,
) -> PriceRow:
    """Inserts the price of *model* on a tier from now on."""
    row = {
        "model": model,
        "service_tier": service_tier,
        **asdict(tariff),
        "valid_from_ms": valid_from_ms,
    }
    query = insert(price_version).returning(price_version.c.version)
    version = connection.execute(query, row).scalar_one()
    return PriceRow(version, model, service_tier, tariff)
