from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from stillhouse.errors import ConfigError, StoreUnavailableError
from stillhouse.store import schema
from stillhouse.store.accounts import accounts
from stillhouse.store.database import ConflictError, Connection, Database
from stillhouse.store.tables import metadata
from tests.postgresql import PostgreSQL
from tests.unit.store.account_names import insert_account, names

HISTORY = """
    INSERT INTO price_version VALUES (1, 'm', 'default', 1, 1, 1, 0);
    INSERT INTO account VALUES (3, 'customer', 'c', false, 0);
    INSERT INTO api_key (id, account_id, name, prefix, secret_hmac, created_at_ms)
        VALUES (1, 3, 'k', 'sh_', '\\x00', 0);
    INSERT INTO request VALUES
        (1, 'r', 3, 1, 1, 'SETTLED', 2, 0, NULL, 1, 0, 1, 'engine', 'stop', 2, 0, NULL);
    INSERT INTO entry VALUES (1, 'charge', 3, -2), (1, 'charge', 1, 2);
"""


@pytest.fixture
def url(postgresql: PostgreSQL) -> str:
    return postgresql.empty_ledger()


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    with Database.open(url, is_server=True) as database:
        yield database


def test_migrations_make_the_tables(postgresql: PostgreSQL) -> None:
    """A database that was migrated from nothing has exactly the tables that the queries know."""

    def differences(connection: Connection) -> list[object]:
        options = {"compare_type": True, "compare_server_default": True}
        context = MigrationContext.configure(connection, opts=options)
        return list(compare_metadata(context, metadata))

    with Database.open(postgresql.create_database()) as database:
        assert [] == asyncio.run(database.read(differences))


def test_gateways_that_start_at_once_migrate_once(postgresql: PostgreSQL) -> None:
    """Of several gateways on an empty database one makes the tables, and the others wait for it."""
    url = postgresql.create_database()
    with ThreadPoolExecutor(3) as threads:
        for opening in [threads.submit(Database.open, url) for _ in range(3)]:
            opening.result().close()
    with psycopg.connect(url, client_encoding="utf8") as connection:
        version = connection.execute("SELECT version_num FROM alembic_version").fetchall()
        accounts = connection.execute("SELECT count(*) FROM account").fetchone()
    assert ([(schema.HEAD,)], (2,)) == (version, accounts)


async def test_newer_schema_is_refused(postgresql: PostgreSQL) -> None:
    """A ledger of a newer stillhouse is not touched, and the message says what to install."""
    url = postgresql.create_database()
    Database.open(url).close()
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(ConfigError, match="schema 9999"):
        Database.open(url)


async def test_several_servers_share_a_database(url: str, database: Database) -> None:
    """A second server on the same database is welcome, and both see what either writes."""
    with Database.open(url, is_server=True) as second:
        await asyncio.gather(
            *(second.write(insert_account(f"second {n}")) for n in range(20)),
            *(database.write(insert_account(f"first {n}")) for n in range(20)),
        )
        assert await names(database) == await names(second)
    assert 40 == len(await names(database))


async def test_every_connection_is_durable_and_cannot_hang(database: Database) -> None:
    """COMMIT waits for the disk, and neither a lock nor a silent client is waited for for ever."""

    def settings(connection: Connection) -> list[object]:
        return [
            connection.exec_driver_sql(f"SHOW {name}").scalar_one()
            for name in (
                "synchronous_commit",
                "lock_timeout",
                "idle_in_transaction_session_timeout",
                "transaction_isolation",
            )
        ]

    assert ["on", "500ms", "1s", "read committed"] == await database.write(settings)
    assert ["on", "500ms", "1s", "repeatable read"] == await database.read(settings)


def is_waiting_for_a_lock(observer: psycopg.Connection[tuple[int]]) -> bool:
    row = observer.execute(
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE datname = current_database() AND wait_event_type = 'Lock'"
    ).fetchone()
    return row != (0,)


async def test_transactions_of_two_gateways_never_overlap(url: str, database: Database) -> None:
    """What one gateway reads in a transaction that writes, no other changes before its end."""
    may_end = threading.Event()

    def insert_slowly(connection: Connection) -> None:
        insert_account("first")(connection)
        loop.call_soon_threadsafe(is_inside.set)
        assert may_end.wait(timeout=30)

    loop, is_inside = asyncio.get_running_loop(), asyncio.Event()
    with Database.open(url) as other, psycopg.connect(url, autocommit=True) as observer:
        first = asyncio.create_task(database.write(insert_slowly))
        await is_inside.wait()
        second = asyncio.create_task(other.write(accounts.fetch_customers))
        while not second.done() and not is_waiting_for_a_lock(observer):  # noqa: ASYNC110
            await asyncio.sleep(0.001)  # the server can only be asked
        may_end.set()
        await first
        assert ["first"] == [row.name for row in await second]


async def test_deadlock_with_another_program_is_tried_again(url: str, database: Database) -> None:
    """A transaction that the server ends for a deadlock is done again, and nobody notices."""
    for name in ("a", "b"):
        await database.write(insert_account(name))
    rename = "UPDATE account SET name = name || '!' WHERE name LIKE %s"
    loop, has_a = asyncio.get_running_loop(), asyncio.Event()
    num_runs = 0

    def rename_both(connection: Connection) -> None:
        nonlocal num_runs
        num_runs += 1
        connection.exec_driver_sql("SET LOCAL deadlock_timeout = '10ms'")
        connection.exec_driver_sql(rename, ("a%",))
        if num_runs == 1:
            loop.call_soon_threadsafe(has_a.set)
            while not is_waiting_for_a_lock(observer):
                time.sleep(0.001)  # the server can only be asked
        connection.exec_driver_sql(rename, ("b%",))

    with psycopg.connect(url) as intruder, psycopg.connect(url, autocommit=True) as observer:
        intruder.execute("SET deadlock_timeout = '10s'")  # not the intruder, but we shall be ended
        intruder.execute(rename, ["b%"])
        writing = asyncio.create_task(database.write(rename_both))
        await has_a.wait()
        await asyncio.to_thread(intruder.execute, rename, ["a%"])
        intruder.commit()
        await writing
    assert (2, ["a!!", "b!!"]) == (num_runs, await names(database))


async def test_impossible_value_is_a_conflict(database: Database) -> None:
    """A text that PostgreSQL cannot keep is the caller's fault, not an outage."""
    with pytest.raises(ConflictError):
        await database.write(insert_account("nul \0"))


def test_wrong_url_is_a_configuration_error() -> None:
    """A URL that cannot be read is refused, and its password is not told."""
    with pytest.raises(ConfigError, match=r"store\.url: .* query parameter") as raised:
        Database.open("postgresql://me:secret@/x?hots=y")
    assert "secret" not in raised.value.message


def test_unreachable_server_is_unavailable(tmp_path) -> None:
    """A server that does not run is reported with the reason."""
    with pytest.raises(StoreUnavailableError, match="No such file"):
        Database.open(f"postgresql:///ledger?host={tmp_path}")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entry SET amount_picousd = 0",
        "DELETE FROM entry",
        "TRUNCATE entry",
        "UPDATE price_version SET output_picousd = 0",
        "DELETE FROM price_version",
        "UPDATE request SET cost_picousd = 0",
        "UPDATE request SET state = 'HELD'",
        "DELETE FROM request",
        "TRUNCATE request CASCADE",
    ],
)
def test_history_cannot_be_changed(url: str, statement: str) -> None:
    """Even somebody at psql cannot alter a charge, a price or a settled request."""
    with psycopg.connect(url) as connection:
        connection.execute(HISTORY)
        with pytest.raises(psycopg.IntegrityError, match=r"append-only|never changes|kept"):
            connection.execute(statement)
