"""Reads the database's clock, which all gateways of a database share."""

from __future__ import annotations

from sqlalchemy import Connection, text

from stillhouse.clock import Clock
from stillhouse.store.database import Database

#: A measurement with a longer round trip is too imprecise to be used.
_MAX_ROUND_TRIP_S = 0.5

_NOW_MS = text("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint")


class DatabaseClock:
    """
    Returns the time by which months begin and leases end.

    If the database has one server, this is the machine's time. In a shared database it is the
    database's time, fetched now and then and continued with the machine's monotonic clock: two
    gateways whose clocks differ by an hour agree to within a round trip.
    """

    def __init__(self, database: Database, machine: Clock) -> None:
        self._database = database
        self._machine = machine
        #: The database's time at the zero of the monotonic clock.
        self._start_ms: float | None = None

    def now_ms(self) -> int:
        """Returns the milliseconds since 1970-01-01 UTC."""
        if self._start_ms is None:
            return self._machine.now_ms()
        return round(self._start_ms + self._machine.monotonic_s() * 1000)

    def monotonic_s(self) -> float:
        """Returns seconds from an arbitrary start, which never decrease."""
        return self._machine.monotonic_s()

    async def synchronise(self) -> None:
        """
        Fetches the database's time; call this before the clock is used, and again now and then.

        Raises:
            StoreUnavailableError: The database cannot be read; the clock keeps running.

        """
        if not self._database.is_shared:
            return
        before_s = self._machine.monotonic_s()
        now_ms = await self._database.read(_fetch_now_ms)
        after_s = self._machine.monotonic_s()
        if self._start_ms is None or after_s - before_s <= _MAX_ROUND_TRIP_S:
            self._start_ms = now_ms - (before_s + after_s) / 2 * 1000


def _fetch_now_ms(connection: Connection) -> int:
    now_ms: int = connection.execute(_NOW_MS).scalar_one()
    return now_ms
