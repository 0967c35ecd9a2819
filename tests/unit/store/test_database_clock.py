from __future__ import annotations

from pathlib import Path

import pytest

from stillhouse.clock import FrozenClock, SystemClock
from stillhouse.store.database import Database
from stillhouse.store.database_clock import DatabaseClock
from tests.postgresql import PostgreSQL

HOUR_S = 3600


class WrongClock(SystemClock):
    """A machine whose clock is wrong, by however much."""

    def __init__(self, error_s: float) -> None:
        self.error_s = error_s

    def now_ms(self) -> int:
        return super().now_ms() + round(self.error_s * 1000)


@pytest.mark.parametrize("error_s", [-HOUR_S, 0, HOUR_S])
async def test_gateways_agree_whatever_their_clocks_say(
    postgresql: PostgreSQL, error_s: float
) -> None:
    """Two gateways on one database mean the same moment though their machines' clocks differ."""
    with Database.open(postgresql.empty_ledger()) as database:
        right = DatabaseClock(database, SystemClock())
        wrong = DatabaseClock(database, WrongClock(error_s))
        await right.synchronise()
        await wrong.synchronise()
        assert 1000 > abs(right.now_ms() - wrong.now_ms())
        assert 1000 > abs(right.now_ms() - SystemClock().now_ms())  # here one machine runs both


async def test_step_of_the_machines_clock_changes_nothing(postgresql: PostgreSQL) -> None:
    """Between two measurements the database's time goes on with the monotonic clock alone."""
    machine = WrongClock(0)
    with Database.open(postgresql.empty_ledger()) as database:
        clock = DatabaseClock(database, machine)
        await clock.synchronise()
        before_ms = clock.now_ms()
        machine.error_s = HOUR_S
        assert 60_000 > clock.now_ms() - before_ms


async def test_file_has_the_machines_time(tmp_path: Path) -> None:
    """A ledger with one server has that server's clock, which tests may freeze."""
    machine = FrozenClock()
    with Database.open(tmp_path / "ledger.db") as database:
        clock = DatabaseClock(database, machine)
        await clock.synchronise()
        machine.advance(5)
        assert (machine.now_ms(), machine.monotonic_s()) == (clock.now_ms(), clock.monotonic_s())
