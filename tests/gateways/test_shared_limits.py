"""The limits of an account across all gateways that share a database."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from stillhouse.billing.ledger import Ledger
from stillhouse.billing.limits.shared_rate_limiter import SharedRateLimiter
from stillhouse.billing.outcome import Outcome
from stillhouse.errors import RateLimitError
from stillhouse.store.database import Database
from stillhouse.types.service_tier import ServiceTier
from stillhouse.types.usage import TokenUsage
from tests.gateways.test_race import num_admitted, racer
from tests.ledger_audit import audit_differences
from tests.unit.billing.conftest import MODEL, TARIFF, Books

NUM_GATEWAYS = 2

#: A customer as two gateways see it, and another customer on the first of them.
Gateways = tuple[Books, Books, Books]


async def race(url: str, limits: dict[str, int], *, books: Books) -> int:
    """Return how many of 200 concurrent requests two gateways admit."""
    async with AsyncExitStack() as stack:
        entering = [
            stack.enter_async_context(racer(url, json.dumps(limits))) for _ in range(NUM_GATEWAYS)
        ]
        return await num_admitted(await asyncio.gather(*entering), books)


async def test_gateways_together_never_pass_what_may_be_in_flight(url: str) -> None:
    """Two gateways admit exactly as many requests of an account as one would."""
    with Database.open(url) as database:
        books = await Books.open(database)
        assert 30 == await race(url, {"max_outstanding": 30}, books=books)
        assert [(30,)] == await books.rows("SELECT count(*) FROM request WHERE state = 'HELD'")


async def test_gateways_together_never_pass_a_rate(url: str) -> None:
    """Two gateways admit a minute's worth, and what has come back meanwhile, but no more."""
    with Database.open(url) as database:
        books = await Books.open(database)
        begin_s = time.monotonic()
        admitted = await race(url, {"max_outstanding": 200, "requests_per_minute": 10}, books=books)
        assert 10 <= admitted <= 10 + (time.monotonic() - begin_s) / 6


@pytest.fixture
async def two(url: str) -> AsyncIterator[Gateways]:
    """Two gateways on one ledger, which must be right in the end."""
    with Database.open(url) as first, Database.open(url) as second:
        books = await Books.open(first)
        other = await books.beside("other")
        yield books, books.on(second), other
        await books.ledger.close()
        assert [] == await audit_differences(books.ledger)


def limit(*gateways: Books, max_outstanding: int = 99, **limits: int) -> None:
    for gateway in gateways:
        limiter = SharedRateLimiter(max_outstanding, **limits)
        gateway.ledger = Ledger(gateway.database, gateway.clock, limiter)


async def test_what_ends_on_one_gateway_makes_room_on_the_other(two: Gateways) -> None:
    """In flight is what is held anywhere, of this account and at this model alone."""
    here, there, other = two
    limit(here, there, max_outstanding=2)
    held = [await here.hold(), await there.hold()]
    for gateway in (here, there):
        with pytest.raises(RateLimitError, match="2 requests to this model are in flight"):
            await gateway.hold(request_id="refused")
    await other.hold()
    elsewhere = (await here.ledger.prices.publish({f"{MODEL}-2": TARIFF}))[f"{MODEL}-2"][
        ServiceTier.DEFAULT
    ]
    await here.at(elsewhere).hold()
    await here.ledger.void(held[0], outcome=Outcome.ENGINE_ERROR)
    await there.hold()
    assert [] == await here.rows("SELECT * FROM rate")


async def test_a_new_price_makes_no_room(two: Gateways) -> None:
    """A model's requests count together, whatever price they were admitted at."""
    here, there, _ = two
    limit(here, there, max_outstanding=2)
    await here.hold()
    await here.hold()
    prices = await there.ledger.prices.publish({MODEL: TARIFF.on(ServiceTier.FLEX)})
    with pytest.raises(RateLimitError):
        await there.at(prices[MODEL][ServiceTier.DEFAULT]).hold()


async def test_a_key_has_a_limit_of_its_own(two: Gateways) -> None:
    """A key that has as many in flight as it may is refused before its account is."""
    here, there, _ = two
    limit(here, there, max_outstanding_per_key=1)
    await here.hold()
    with pytest.raises(RateLimitError, match="1 requests"):
        await there.hold()


async def test_tokens_of_both_gateways_use_up_one_minute(two: Gateways) -> None:
    """Prompts count at once, completions when they have ended, and a refusal says until when."""
    here, there, other = two
    limit(here, there, tokens_per_minute=1000)
    hold = await here.hold(prompt_tokens=149)
    await there.hold(prompt_tokens=149)
    usage = TokenUsage(prompt_tokens=149, completion_tokens=900)
    for ledger in (here.ledger, there.ledger):  # a repetition counts nothing
        await ledger.settle(hold, usage=usage, outcome=Outcome.STOP)
    with pytest.raises(RateLimitError, match="1000 tokens per minute") as refused:
        await there.hold(request_id="refused")
    # 1,198 tokens are gone, so 199 must come back before there is one, at 60 ms each.
    assert 0 < refused.value.retry_after_s <= 199 * 0.06
    await other.hold()
    await here.tamper(f"UPDATE rate SET full_at_ns = full_at_ns - {12 * 10**9}")
    await there.hold()


async def test_a_file_counts_nothing(tmp_path: Path) -> None:
    """With a ledger in a file there is one gateway, which counts in memory."""
    with Database.open(tmp_path / "ledger.db", is_server=True) as database:
        books = await Books.open(database)
        limit(books, max_outstanding=1, requests_per_minute=1)
        await books.hold()
        await books.hold()
        await books.ledger.close()
