from __future__ import annotations

import asyncio

import pytest

from stillhouse.billing.ledger import Ledger
from stillhouse.billing.limits.spending_limits import LimitPeriod
from stillhouse.billing.outcome import Outcome
from stillhouse.errors import InsufficientFundsError, InvalidRequestError
from stillhouse.money import PICOUSD_PER_USD
from stillhouse.types.usage import TokenUsage
from tests.ledger_audit import audit_differences
from tests.unit.billing.conftest import TARIFF, Books

USAGE = TokenUsage(prompt_tokens=149, completion_tokens=338)
COST_PICOUSD = 354_930_000
CEILING_PICOUSD = TARIFF.ceiling_picousd(prompt_tokens=149, max_tokens=1000)
DECEMBER_S = 201 * 86_400  # from the frozen clock's 2025-06-15 to 2026-01-02


async def settle(books: Books) -> None:
    hold = await books.hold()
    await books.ledger.settle(hold, usage=USAGE, outcome=Outcome.STOP)


async def num_admitted(books: Books, *, of: int) -> int:
    """How many of so many requests at once are admitted."""
    results = await asyncio.gather(*(books.hold() for _ in range(of)), return_exceptions=True)
    refused = [result for result in results if isinstance(result, InsufficientFundsError)]
    assert of - len(refused) == sum(not isinstance(result, BaseException) for result in results)
    return of - len(refused)


@pytest.mark.parametrize("num_covered", [0, 1, 7])
async def test_prepaid_account_spends_what_was_paid_in(verified: Books, num_covered: int) -> None:
    """Of 50 requests at once, as many are admitted as the balance covers at their highest cost."""
    prepaid = await verified.beside("prepaid", is_prepaid=True)
    if num_covered:
        await prepaid.ledger.limits.top_up(prepaid.account_id, num_covered * CEILING_PICOUSD)
    assert num_covered == await num_admitted(prepaid, of=50)
    assert (0, num_covered * CEILING_PICOUSD) == await prepaid.balance()


@pytest.mark.parametrize("num_covered", [0, 1, 7])
async def test_key_limit_admits_exactly_what_it_covers(verified: Books, num_covered: int) -> None:
    """200 requests at once never pass a key's limit, not by a pico-dollar, nor fall short of it."""
    limit_picousd = (num_covered + 1) * CEILING_PICOUSD - 1
    await verified.ledger.limits.set_key_limit(verified.key_id, limit_picousd)
    assert num_covered == await num_admitted(verified, of=200)


async def test_settling_frees_what_was_not_used(verified: Books) -> None:
    """A limit is charged with what requests cost; their holds bind it only while they run."""
    await verified.ledger.limits.set_key_limit(verified.key_id, CEILING_PICOUSD + COST_PICOUSD)
    await settle(verified)
    await settle(verified)
    with pytest.raises(InsufficientFundsError, match=r"spending limit of \$0\.0012328"):
        await verified.hold()


async def test_limit_counts_what_was_spent_before_it(verified: Books) -> None:
    """A limit set later covers the key's earlier requests, and what still runs."""
    await settle(verified)
    running = await verified.hold()
    await verified.ledger.limits.set_key_limit(verified.key_id, COST_PICOUSD + CEILING_PICOUSD)
    with pytest.raises(InsufficientFundsError):
        await verified.hold()
    await verified.ledger.settle(running, usage=USAGE, outcome=Outcome.STOP)


async def test_limit_below_what_is_spent_is_refused(verified: Books) -> None:
    """A limit that is passed already is refused, and the one before it stands."""
    await verified.ledger.limits.set_key_limit(verified.key_id, CEILING_PICOUSD)
    await settle(verified)
    with pytest.raises(InsufficientFundsError, match=r"has spent \$0\.00035493 in total"):
        await verified.ledger.limits.set_key_limit(verified.key_id, COST_PICOUSD - 1)
    assert [(CEILING_PICOUSD,)] == await verified.rows(
        "SELECT limit_picousd FROM balance WHERE holder = 'key'"
    )


async def test_monthly_limit_begins_anew(verified: Books) -> None:
    """A month's limit is whole again at the first moment of the next month in UTC."""
    await verified.ledger.limits.set_key_limit(
        verified.key_id, CEILING_PICOUSD, period=LimitPeriod.MONTH
    )
    july_ms = 1_751_328_000_000  # 2025-07-01 00:00 UTC
    verified.clock.advance((july_ms - 1 - verified.clock.now_ms()) / 1000)
    await settle(verified)
    with pytest.raises(InsufficientFundsError, match="this month"):
        await verified.hold()
    verified.clock.advance(0.001)
    assert 1 == await num_admitted(verified, of=3)


async def test_request_counts_in_the_month_of_its_admission(verified: Books) -> None:
    """A request that runs past midnight is charged to the month whose limit admitted it."""
    await verified.ledger.limits.set_key_limit(
        verified.key_id, 2 * CEILING_PICOUSD, period=LimitPeriod.MONTH
    )
    hold = await verified.hold()
    verified.clock.advance(DECEMBER_S)
    await settle(verified)
    await verified.ledger.settle(hold, usage=USAGE, outcome=Outcome.STOP)
    assert [(202506, COST_PICOUSD, 0), (202601, COST_PICOUSD, 0)] == await verified.rows(
        "SELECT period, spent_picousd, held_picousd FROM balance WHERE holder = 'key' "
        "ORDER BY period"
    )


async def test_removed_limit_no_longer_binds(verified: Books) -> None:
    """A key whose limit is taken away is limited by its account alone."""
    await verified.ledger.limits.set_key_limit(verified.key_id, 0)
    await verified.ledger.limits.set_key_limit(verified.key_id, None)
    assert 5 == await num_admitted(verified, of=5)


async def test_refused_key_reserves_nothing_on_its_account(verified: Books) -> None:
    """A request that its key's limit refuses leaves its account's balance as it was."""
    await verified.ledger.limits.set_key_limit(verified.key_id, CEILING_PICOUSD - 1)
    assert 0 == await num_admitted(verified, of=3)
    assert (0, 0) == await verified.balance()


async def test_top_up_is_a_posting(verified: Books) -> None:
    """What a customer pays in comes from the house's funding account, with a note."""
    prepaid = await verified.beside("prepaid", is_prepaid=True)
    await prepaid.ledger.limits.top_up(
        prepaid.account_id, 5 * PICOUSD_PER_USD, note="bank transfer"
    )
    assert [(2, -5 * PICOUSD_PER_USD), (prepaid.account_id, 5 * PICOUSD_PER_USD)] == (
        await prepaid.rows("SELECT account_id, amount_picousd FROM entry ORDER BY account_id")
    )
    assert [("bank transfer",)] == await prepaid.rows("SELECT note FROM top_up")


@pytest.mark.parametrize(("is_prepaid", "amount_picousd"), [(False, 1), (True, 0), (True, -1)])
async def test_wrong_top_up_is_refused(
    verified: Books, *, is_prepaid: bool, amount_picousd: int
) -> None:
    """Only a prepaid account can be topped up, and only by something."""
    customer = await verified.beside("customer 2", is_prepaid=is_prepaid)
    with pytest.raises(InvalidRequestError, match=r"not prepaid|more than nothing"):
        await customer.ledger.limits.top_up(customer.account_id, amount_picousd)


@pytest.mark.parametrize(
    "loss",
    [
        "DELETE FROM balance",
        "UPDATE balance SET spent_picousd = 0",
        "DELETE FROM usage_day",
        "UPDATE usage_day SET cost_picousd = 0",
    ],
)
async def test_sums_are_rebuilt_from_history(books: Books, loss: str) -> None:
    """Sums that are lost or wrong are made anew, and the same requests are then admitted."""
    prepaid = await books.beside("prepaid", is_prepaid=True)
    await prepaid.ledger.limits.top_up(prepaid.account_id, 2 * CEILING_PICOUSD)
    await books.ledger.limits.set_key_limit(books.key_id, 2 * CEILING_PICOUSD)
    for customer in (books, prepaid):
        await settle(customer)
        await customer.hold()
    sums = (
        "SELECT * FROM balance CROSS JOIN usage_day WHERE holder = 'account' "
        "ORDER BY holder_id, day, key_id"
    )
    right = await books.rows(sums)
    await books.tamper(loss)
    rebuilt = Ledger(books.database, books.clock)
    await rebuilt.auditor.rebuild()
    assert [] == await audit_differences(rebuilt)
    assert right == await books.rows(sums)
    for customer in (books, prepaid):
        assert 0 == await num_admitted(customer, of=2)
