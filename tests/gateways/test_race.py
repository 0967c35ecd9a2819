from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from stillhouse.billing.limits.spending_limits import LimitPeriod
from stillhouse.store.database import Database
from stillhouse.store.ledger.balances import fetch_all
from tests.ledger_audit import audit_differences
from tests.unit.billing.conftest import TARIFF, Books

REPOSITORY = Path(__file__).parents[2]
NUM_GATEWAYS = 4
NUM_REQUESTS = 200
NUM_REPEATS = 20
CEILING_PICOUSD = TARIFF.ceiling_picousd(prompt_tokens=149, max_tokens=1000)


@asynccontextmanager
async def racer(url: str, *limits: str) -> AsyncIterator[Process]:
    """A gateway that has opened the ledger at *url*."""
    program = [sys.executable, "-m", "tests.gateways.racer", url, *limits]
    process = await asyncio.create_subprocess_exec(
        *program, cwd=REPOSITORY, stdin=PIPE, stdout=PIPE
    )
    assert process.stdin
    assert process.stdout
    try:
        assert b"ready\n" == await process.stdout.readline()
        yield process
    finally:
        process.stdin.close()
        await process.wait()


@pytest.fixture
async def gateways(url: str) -> AsyncIterator[list[Process]]:
    """Gateways that have all started at once."""
    async with AsyncExitStack() as stack:
        entering = [stack.enter_async_context(racer(url)) for _ in range(NUM_GATEWAYS)]
        yield await asyncio.gather(*entering)


async def num_admitted(gateways: Sequence[Process], books: Books) -> int:
    """Return how many of the requests are admitted that all gateways get at once."""
    order = f"{books.account_id} {books.key_id} {NUM_REQUESTS // len(gateways)}\n".encode()
    for gateway in gateways:
        assert gateway.stdin
        gateway.stdin.write(order)
    return sum([int(await gateway.stdout.readline()) for gateway in gateways if gateway.stdout])


async def test_gateways_together_admit_exactly_what_a_limit_covers(
    gateways: list[Process], url: str
) -> None:
    """200 requests at once on 4 gateways never pass a limit by a pico-dollar, nor fall short."""
    with Database.open(url) as database:
        books = await Books.open(database)
        admitted, covered = [], []
        for repeat in range(NUM_REPEATS):
            covered.append(repeat * 3)
            limit_picousd = (covered[-1] + 1) * CEILING_PICOUSD - 1
            if repeat % 2:  # what was paid in; or the key's limit, in the month that begins with it
                customer = await books.beside(f"customer {repeat}", is_prepaid=True)
                await customer.ledger.limits.top_up(customer.account_id, limit_picousd)
            else:
                customer = await books.beside(f"customer {repeat}")
                await customer.ledger.limits.set_key_limit(
                    customer.key_id, limit_picousd, period=LimitPeriod.MONTH
                )
            admitted.append(await num_admitted(gateways, customer))
        assert covered == admitted
        kept = (await database.read(fetch_all)).values()
        assert [] == [row for row in kept if sum(row[:2]) > (row.limit_picousd or sum(row[:2]))]
        assert [] == await audit_differences(books.ledger)
