from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from stillhouse.billing.ledger import Hold
from stillhouse.errors import InsufficientFundsError
from stillhouse.store.database import Database
from stillhouse.store.ledger.balances import fetch_all
from tests.ledger_audit import audit_differences
from tests.unit.billing.conftest import TARIFF, Books

NUM_REPEATS = 100
NUM_REQUESTS = 200
CEILING_PICOUSD = TARIFF.ceiling_picousd(prompt_tokens=149, max_tokens=1000)


@pytest.fixture
async def books(tmp_path: Path) -> AsyncIterator[Books]:
    """A ledger in a file; `tests/gateways/test_race.py` is the same on PostgreSQL."""
    with Database.open(tmp_path / "ledger.db", is_server=True) as database:
        yield await Books.open(database)


async def test_requests_at_once_never_pass_a_limit(books: Books) -> None:
    """200 requests at once, 100 times: as many are admitted as a limit covers, to a pico-dollar."""
    covered, admitted = [], []
    for repeat in range(NUM_REPEATS):
        covered.append(repeat % 10)
        limit_picousd = (covered[-1] + 1) * CEILING_PICOUSD - 1
        customer = await books.beside(f"customer {repeat}", is_prepaid=repeat % 2 == 0)
        if repeat % 2 == 0:
            await customer.ledger.limits.top_up(customer.account_id, limit_picousd)
        else:
            await customer.ledger.limits.set_key_limit(customer.key_id, limit_picousd)
        holding = [customer.hold() for _ in range(NUM_REQUESTS)]
        results = await asyncio.gather(*holding, return_exceptions=True)
        admitted.append(sum(isinstance(result, Hold) for result in results))
        refused = sum(isinstance(result, InsufficientFundsError) for result in results)
        assert NUM_REQUESTS == admitted[-1] + refused
    assert covered == admitted
    kept = (await books.database.read(fetch_all)).values()
    limited = [row for row in kept if row.limit_picousd is not None]
    assert NUM_REPEATS == len(limited)
    assert 0 == sum(max(0, sum(row[:2]) - (row.limit_picousd or 0)) for row in limited)
    assert [] == await audit_differences(books.ledger)
