from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import bindparam, insert, select, update

from stillhouse.store.backends.prepared import Prepared
from stillhouse.store.database import ConflictError, Connection, Database
from stillhouse.store.tables import account, top_up
from tests.unit.store.account_names import insert_account, names

INSERT = Prepared(
    insert(account).returning(account.c.id), "kind", "name", "is_prepaid", "created_at_ms"
)
RENAME = Prepared(
    update(account)
    .where(account.c.name == bindparam("old"), account.c.kind == "customer")
    .values(name=bindparam("new"), created_at_ms=7)
)
FIND = Prepared(
    select(account.c.name, account.c.created_at_ms).where(account.c.id == bindparam("i"))
)
TOP_UP = Prepared(
    insert(top_up).values(created_at_ms=None, note=""), "account_id", "amount_picousd"
)
ROW = {"kind": "customer", "name": "a", "is_prepaid": False, "created_at_ms": 0}


@pytest.fixture
async def database(place: Path | str) -> AsyncIterator[Database]:
    with Database.open(place, is_server=True) as database:
        yield database


async def test_a_statement_has_its_rows_values_and_its_own(database: Database) -> None:
    """Values of the row and constants of the statement stand where they belong."""

    def work(connection: Connection) -> list[Any]:
        (number,) = INSERT.run(connection, ROW).fetchone()
        before = tuple(FIND.run(connection, {"i": number}).fetchone())
        renamed = [RENAME.run(connection, {"old": "a", "new": "b"}).rowcount for _ in range(2)]
        after = tuple(FIND.run(connection, {"i": number}).fetchone())
        return [before, renamed, after, FIND.run(connection, {"i": -1}).fetchone()]

    assert [("a", 0), [1, 0], ("b", 7), None] == await database.write(work)


async def test_a_constant_may_be_null(database: Database) -> None:
    """A statement that sets NULL says so, and is not taken for one that lacks a value."""
    someone = await database.write(insert_account("someone"))
    row = {"account_id": someone.id, "amount_picousd": 1}
    with pytest.raises(ConflictError, match=r"(?i)not[ -]null"):
        await database.write(lambda connection: TOP_UP.run(connection, row))


async def test_an_error_of_the_driver_is_the_stores_own(database: Database) -> None:
    """What the database refuses is told in the same words on both, and undoes its work alone."""

    def twice(connection: Connection) -> None:
        INSERT.run(connection, ROW).fetchone()
        INSERT.run(connection, ROW).fetchone()

    with pytest.raises(ConflictError, match=r"(?i)unique"):
        await database.write(twice)
    assert [] == await names(database)
    await database.write(insert_account("a"))
    assert ["a"] == await names(database)
