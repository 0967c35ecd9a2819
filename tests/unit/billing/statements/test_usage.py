from __future__ import annotations

from stillhouse.billing.outcome import Outcome
from stillhouse.billing.statements.statement import Statements
from stillhouse.billing.statements.usage import UsageGrouping, UsageLine
from stillhouse.types.service_tier import ServiceTier
from stillhouse.types.usage import TokenUsage
from tests.tariffs import usd_tariff
from tests.unit.billing.conftest import MODEL, Books

DAY_S = 86_400
COST_PICOUSD = 354_930_000


async def use(books: Books, *, cached_tokens: int = 0) -> None:
    hold = await books.hold()
    await books.ledger.settle(hold, usage=TokenUsage(149, cached_tokens, 338), outcome=Outcome.STOP)


async def test_usage_by_key_sums_charged_requests(verified: Books) -> None:
    """A key's line counts what was charged, and failures of ours apart; holds are not usage yet."""
    await use(verified)
    await use(verified, cached_tokens=100)
    failed = await verified.hold()
    await verified.ledger.void(failed, outcome=Outcome.ENGINE_ERROR, usage=TokenUsage(149, 0, 5))
    await verified.hold()
    line = UsageLine("key", 2, 1, 298, 100, 676, 2 * COST_PICOUSD)
    assert [line] == await Statements(verified.database).usage(by=UsageGrouping.KEY)


async def test_usage_by_model_joins_price_versions(verified: Books) -> None:
    """A model is one line however often its price changed; the dearest model comes first."""
    await use(verified)
    dearer = usd_tariff("0.59", "7.90")
    prices = await verified.ledger.prices.publish({MODEL: dearer, "another": dearer})
    verified.price = prices[MODEL][ServiceTier.DEFAULT]
    await use(verified)
    verified.price = prices["another"][ServiceTier.DEFAULT]
    for _ in range(3):
        await use(verified)
    lines = await Statements(verified.database).usage(by=UsageGrouping.MODEL)
    assert [("another", 3), (MODEL, 2)] == [(line.heading, line.num_requests) for line in lines]


async def test_usage_by_day_is_in_utc(verified: Books) -> None:
    """Days begin at midnight UTC and come in order."""
    midnight_ms = 1_750_032_000_000  # 2025-06-16 00:00 UTC
    verified.clock.advance((midnight_ms - 1 - verified.clock.now_ms()) / 1000)
    await use(verified)
    verified.clock.advance(0.001)
    await use(verified)
    await use(verified)
    lines = await Statements(verified.database).usage(by=UsageGrouping.DAY)
    assert [("2025-06-15", 1), ("2025-06-16", 2)] == [
        (line.heading, line.num_requests) for line in lines
    ]


async def test_span_is_half_open(verified: Books) -> None:
    """A request at the very end of a span belongs to the next one, so none is counted twice."""
    start_ms = verified.clock.now_ms()
    await use(verified)
    verified.clock.advance(DAY_S)
    await use(verified)
    spans = [
        await Statements(verified.database).usage(
            by=UsageGrouping.KEY, from_ms=from_ms, to_ms=to_ms
        )
        for from_ms, to_ms in (
            (start_ms, verified.clock.now_ms()),
            (verified.clock.now_ms(), None),
            (0, start_ms),
        )
    ]
    assert [1, 1, 0] == [sum(line.num_requests for line in lines) for lines in spans]


async def test_usage_of_another_account_is_not_shown(verified: Books) -> None:
    """An account's statement holds its own requests alone."""
    await use(verified)
    lines = await Statements(verified.database).usage(
        by=UsageGrouping.KEY, account_id=verified.account_id + 1
    )
    assert [] == lines
