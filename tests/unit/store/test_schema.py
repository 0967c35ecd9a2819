from __future__ import annotations

import re
import sqlite3
from contextlib import ExitStack
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text

from stillhouse.errors import ConfigError
from stillhouse.store import schema
from stillhouse.store.accounts import scopes
from stillhouse.store.backends import sqlite
from stillhouse.store.database import Database
from stillhouse.store.ledger import balances, usage_days
from stillhouse.store.ledger.balances import Balance, BalanceKey
from stillhouse.store.ledger.usage_days import DayKey, DaySums
from stillhouse.store.tables import metadata


def definitions(path: Path) -> dict[str, list[str]]:
    """Each table's and index's SQL, without the order of what stands within it."""
    connection = sqlite3.connect(path)
    rows = connection.execute(
        "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND type IN ('table', 'index') "
        "AND name NOT LIKE 'alembic%'"
    ).fetchall()
    connection.close()
    return {name: _in_any_order(re.sub(r"\s+", " ", sql).strip()) for name, sql in rows}


def _in_any_order(sql: str) -> list[str]:
    """Columns that a migration adds stand behind the constraints."""
    head, _, body = sql.partition("(")
    parts, depth = [""], 0
    for character in body[:-1]:
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [head, *sorted(part.strip() for part in parts)]


def test_migrations_make_the_tables(tmp_path: Path) -> None:
    """A ledger that was migrated from nothing has exactly the tables that the queries know."""
    Database.open(tmp_path / "migrated.db").close()
    engine = create_engine(f"sqlite:///{tmp_path / 'direct.db'}")
    metadata.create_all(engine)
    engine.dispose()
    assert definitions(tmp_path / "direct.db") == definitions(tmp_path / "migrated.db")


def test_head_is_the_newest_migration() -> None:
    """The version that spares Alembic's loading is the one that Alembic would migrate to."""
    directory = Path(schema.__file__).with_name("migrations")
    assert ScriptDirectory(str(directory)).get_current_head() == schema.HEAD


def test_opening_again_changes_nothing(tmp_path: Path) -> None:
    """Migrations run once: what is stored stays."""
    path = tmp_path / "ledger.db"
    Database.open(path).close()
    first = path.read_bytes()
    Database.open(path).close()
    assert first == path.read_bytes()


async def test_newer_schema_is_refused(tmp_path: Path) -> None:
    """A ledger of a newer stillhouse is not touched, and the message says what to install."""
    path = tmp_path / "ledger.db"
    with Database.open(path) as database:
        await database.write(
            lambda connection: connection.execute(
                text("UPDATE alembic_version SET version_num = '9999'")
            )
        )
    with pytest.raises(ConfigError, match="schema 9999"):
        Database.open(path)


HISTORY = """
    INSERT INTO price_version VALUES (1, 'm', 'default', 1, 1, 1, 0);
    INSERT INTO account VALUES (3, 'customer', 'c', 0, 0);
    INSERT INTO api_key (id, account_id, name, prefix, secret_hmac, created_at_ms)
        VALUES (1, 3, 'k', 'sh_', x'00', 0);
    INSERT INTO request VALUES
        (1, 'r', 3, 1, 1, 'SETTLED', 2, 0, NULL, 1, 0, 1, 'engine', 'stop', 2, 0, NULL);
    INSERT INTO entry VALUES (1, 'charge', 3, -2), (1, 'charge', 1, 2);
"""


def run_script(path: Path, script: str) -> None:
    connection = sqlite3.connect(path)
    connection.executescript(script)
    connection.close()


async def test_usage_of_the_first_schema_is_kept(tmp_path: Path) -> None:
    """A ledger of the first version opens with the second, and its usage is summed by day."""
    path = tmp_path / "ledger.db"
    with ExitStack() as resources:
        backend = sqlite.open_backend(path, resources, is_server=True)
        with backend.writer.begin() as connection:
            schema._upgrade(connection, "0001")
    run_script(
        path,
        HISTORY
        + """
        INSERT INTO request VALUES
            (2, 'r2', 3, 1, 1, 'SETTLED', 9, 86399999, NULL, 3, 2, 1, 'engine', 'stop', 4, 0, NULL),
            (3, 'r3', 3, 1, 1, 'VOIDED', 9, 1, NULL, 3, 2, 1, 'engine', 'engine_error', 0, 0, NULL),
            (4, 'r4', 3, 1, 1, 'HELD', 9, 2, 3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
            (5, 'r5', 3, 1, 1, 'VOIDED', 9, 86400000, NULL, NULL, NULL, NULL, NULL,
             'gateway_lost', 0, 86400001, NULL);
        """,
    )
    with Database.open(path) as database:
        sums = await database.read(usage_days.fetch_all)
        assert sums == await database.read(usage_days.recompute)
    assert {
        DayKey(day=0, key_id=1, price_version=1): DaySums(2, 1, 4, 2, 2, 6),
        DayKey(day=1, key_id=1, price_version=1): DaySums(0, 1, 0, 0, 0, 0),
    } == sums


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entry SET amount_picousd = 0",
        "DELETE FROM entry",
        "UPDATE price_version SET output_picousd = 0",
        "DELETE FROM price_version",
        "UPDATE request SET cost_picousd = 0",
        "UPDATE request SET state = 'HELD'",
        "DELETE FROM request",
    ],
)
def test_history_cannot_be_changed(tmp_path: Path, statement: str) -> None:
    """Even somebody at SQLite's own prompt cannot alter a charge, a price or a settled request."""
    path = tmp_path / "ledger.db"
    Database.open(path).close()
    run_script(path, HISTORY)
    connection = sqlite3.connect(path)
    with pytest.raises(sqlite3.IntegrityError, match=r"append-only|never changes|kept"):
        connection.execute(statement)
    connection.close()


async def test_tokens_of_an_older_ledger_are_kept_if_they_were_spent(tmp_path: Path) -> None:
    """A ledger of the fourth schema keeps the scopes that paid for something, and no others."""
    path = tmp_path / "ledger.db"
    with ExitStack() as resources:
        backend = sqlite.open_backend(path, resources, is_server=True)
        with backend.writer.begin() as connection:
            schema._upgrade(connection, "0004")
    run_script(
        path,
        """
        INSERT INTO account VALUES (3, 'customer', 'c', 0, 0);
        INSERT INTO price_version VALUES (1, 'm', 'default', 1, 1, 1, 0);
        INSERT INTO api_key (id, account_id, name, prefix, secret_hmac, sealed_signing_state,
            created_at_ms) VALUES (1, 3, 'k', 'sh_', x'00', x'01', 0);
        INSERT INTO scope VALUES (1, 1, x'01', 5, 0), (2, 1, x'02', 5, 0), (3, 1, x'03', NULL, 0);
        INSERT INTO balance VALUES ('scope', 1, 0, 2, 0, 5), ('scope', 2, 0, 0, 0, 5);
        INSERT INTO request VALUES
            (1, 'r', 3, 1, 1, 'SETTLED', 2, 0, NULL, 1, 0, 1, 'engine', 'stop', 2, 0, 1);
        """,
    )
    with Database.open(path) as database:
        assert [1] == [row.id for row in await database.read(scopes.fetch_all)]
        kept = await database.read(balances.fetch_all)
        assert {BalanceKey("scope", 1, 0): Balance(2, 0, 5)} == kept
    check = sqlite3.connect(path)
    assert ("ok",) == check.execute("PRAGMA integrity_check").fetchone()
    assert [] == check.execute("PRAGMA foreign_key_check").fetchall()
    with pytest.raises(sqlite3.IntegrityError, match="kept"):
        check.execute("DELETE FROM request")
    check.close()
