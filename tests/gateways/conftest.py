from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from psycopg.conninfo import conninfo_to_dict

from stillhouse.billing.ledger import Ledger
from stillhouse.store.database import Database
from tests.fault_proxy import FaultProxy
from tests.ledger_audit import audit_differences
from tests.postgresql import PostgreSQL
from tests.unit.billing.conftest import Books


@pytest.fixture
def url(postgresql: PostgreSQL) -> str:
    """The URL of an empty ledger on PostgreSQL."""
    return postgresql.empty_ledger()


@pytest.fixture
def proxy(postgresql: PostgreSQL) -> Iterator[FaultProxy]:
    """The proxy between a gateway and the database server."""
    proxy = FaultProxy(postgresql.socket)
    yield proxy
    proxy.close()


@pytest.fixture
async def books(url: str, proxy: FaultProxy) -> AsyncIterator[Books]:
    """A gateway that connects through the proxy; the ledger is verified directly."""
    name = conninfo_to_dict(url)["dbname"]
    with Database.open(f"postgresql://stillhouse@127.0.0.1:{proxy.port}/{name}") as database:
        books = await Books.open(database)
        yield books
        await books.ledger.close()
    with Database.open(url) as database:
        assert [] == await audit_differences(Ledger(database, books.clock))
