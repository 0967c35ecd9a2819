"""Publishes prices: a model's new tariff becomes a new price version on every tier."""

from __future__ import annotations

from collections.abc import Mapping

from stillhouse.billing.price import Price
from stillhouse.clock import Clock
from stillhouse.store.database import Connection, Database
from stillhouse.store.ledger import prices
from stillhouse.types.service_tier import ServiceTier
from stillhouse.types.tariff import Tariff


class PriceList:
    """Publishes the prices at which requests are admitted."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def publish(self, tariffs: Mapping[str, Tariff]) -> dict[str, dict[ServiceTier, Price]]:
        """
        Publishes the prices of every tier, which hold from now on.

        Args:
            tariffs: The default tier's tariffs by model id; each tier's factor is applied to them.

        Returns:
            Each model's price on each tier. An unchanged tariff keeps its version.

        Raises:
            StoreUnavailableError: The ledger cannot be written.

        """
        now_ms = self._clock.now_ms()

        def publish(connection: Connection) -> dict[str, dict[ServiceTier, Price]]:
            return {
                model: {
                    tier: _publish(connection, model, tier, tariff.on(tier), now_ms=now_ms)
                    for tier in ServiceTier
                }
                for model, tariff in tariffs.items()
            }

        return await self._database.write(publish)


def _publish(
    connection: Connection, model: str, tier: ServiceTier, tariff: Tariff, *, now_ms: int
) -> Price:
    """Inserts a price version unless the newest one has this tariff."""
    newest = prices.fetch_newest(connection, model, tier)
    if newest is None or newest.tariff != tariff:
        newest = prices.insert_version(
            connection, model=model, service_tier=tier, tariff=tariff, valid_from_ms=now_ms
        )
    return Price.of(newest)
