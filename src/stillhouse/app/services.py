"""Opens accounts and ledger from a home folder, for the server and the commands."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from stillhouse.accounts.accounts import Accounts
from stillhouse.accounts.config import AccountsConfig
from stillhouse.accounts.home_ledger import forget_ledger_id, load_ledger_id, remember_ledger_id
from stillhouse.billing.ledger import Ledger
from stillhouse.billing.limits.shared_rate_limiter import SharedRateLimiter
from stillhouse.billing.statements.statement import Statements
from stillhouse.clock import Clock, SystemClock
from stillhouse.store.database import Database
from stillhouse.store.database_clock import DatabaseClock

DATABASE_FILE = "stillhouse.db"


@dataclass(frozen=True, slots=True)
class Services:
    """Holds the accounts and the ledger that the server and the commands share."""

    database: Database
    clock: DatabaseClock
    accounts: Accounts
    ledger: Ledger
    statements: Statements


@asynccontextmanager
async def open_services(  # noqa: PLR0913 - one argument per choice
    home: Path,
    *,
    url: str | None = None,
    clock: Clock | None = None,
    is_server: bool = False,
    accounts_config: AccountsConfig | None = None,
    shared_rate_limiter: SharedRateLimiter | None = None,
    must_exist: bool = False,
) -> AsyncIterator[Services]:
    """
    Opens the state under *home*; commands may do so while a server runs on it.

    Args:
        url: Of the ledger's database; None for the file under *home*.
        accounts_config: None takes the defaults.
        shared_rate_limiter: Counts requests over all gateways; None for a command, which has none.
        must_exist: Refuse to create a missing ledger.

    Raises:
        ConfigError: Another server already runs on it, or it is not the ledger of *home*.
        StoreUnavailableError: The database cannot be opened.

    """
    expected_id = load_ledger_id(home)
    with Database.open(
        url or home / DATABASE_FILE,
        is_server=is_server,
        expected_id=expected_id,
        must_exist=must_exist,
    ) as database:
        if expected_id is None:
            remember_ledger_id(home, database.ledger_id)
        clock = DatabaseClock(database, clock or SystemClock())
        await clock.synchronise()
        accounts = await Accounts.open(database, clock, home, accounts_config)
        ledger = Ledger(database, clock, shared_rate_limiter)
        try:
            yield Services(database, clock, accounts, ledger, Statements(database))
        finally:
            await ledger.close()
            await accounts.close()


def adopt_ledger(home: Path, *, url: str | None = None, is_new: bool = False) -> str:
    """
    Adopts the present ledger as that of *home*, and returns its id.

    Args:
        is_new: Create an empty ledger if there is none.

    Raises:
        ConfigError: There is none; or *home* cannot be written.
        StoreUnavailableError: The database cannot be opened.

    """
    with Database.open(url or home / DATABASE_FILE, must_exist=not is_new) as database:
        forget_ledger_id(home)
        remember_ledger_id(home, database.ledger_id)
        return database.ledger_id
