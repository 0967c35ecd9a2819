from __future__ import annotations

import pytest

from stillhouse.billing.holds.transactions import LEASE_MS
from stillhouse.billing.outcome import Outcome
from stillhouse.types.usage import TokenUsage
from tests.ledger_audit import audit_differences
from tests.unit.billing.conftest import Books

USAGE = TokenUsage(prompt_tokens=149, completion_tokens=338)


async def use_everything(books: Books) -> None:
    """Leave a settled, a voided and a held request behind, a top-up, and a key with a limit."""
    settled = await books.hold(request_id="settled")
    await books.ledger.settle(settled, usage=USAGE, outcome=Outcome.STOP)
    voided = await books.hold(request_id="voided")
    await books.ledger.void(voided, outcome=Outcome.ENGINE_ERROR)
    await books.hold(request_id="held")
    await books.ledger.limits.set_key_limit(books.key_id, 10**12)
    prepaid = await books.beside("prepaid", is_prepaid=True)
    await books.ledger.limits.top_up(prepaid.account_id, 5)


async def test_right_ledger_has_no_differences(books: Books) -> None:
    """An audit of a ledger that only the ledger has written finds nothing."""
    await use_everything(books)
    assert [] == await audit_differences(books.ledger)


@pytest.mark.parametrize(
    ("statement", "subject"),
    [
        ("UPDATE request SET cost_picousd = 1 WHERE state = 'SETTLED'", "request settled"),
        ("UPDATE request SET completion_tokens = 337 WHERE state = 'SETTLED'", "request settled"),
        ("UPDATE request SET hold_picousd = 5 WHERE state = 'HELD'", "balance of account 3"),
        ("UPDATE price_version SET output_picousd = 1", "request settled"),
        ("UPDATE entry SET amount_picousd = 1 WHERE account_id = 1", "posting charge 1"),
        ("UPDATE entry SET amount_picousd = -1 WHERE account_id = 3", "request settled"),
        ("DELETE FROM entry", "request settled"),
        ("UPDATE entry SET account_id = 2 WHERE account_id = 3", "request settled"),
        ("UPDATE entry SET account_id = 2 WHERE account_id = 1", "posting charge 1 on account 2"),
        ("UPDATE entry SET reference = 2 WHERE kind = 'charge'", "request voided"),
        ("UPDATE entry SET reference = 99 WHERE kind = 'charge'", "posting charge 99 on account 1"),
        ("UPDATE entry SET reference = 99 WHERE kind = 'top_up'", "posting top_up 99 on account 2"),
        ("UPDATE entry SET kind = 'top_up' WHERE kind = 'charge'", "request settled"),
        ("UPDATE usage_day SET cost_picousd = 0", "usage of key 1 on day 20254 at price 1"),
        ("DELETE FROM usage_day", "usage of key 1 on day 20254 at price 1"),
        ("UPDATE top_up SET amount_picousd = 6", "top-up 1"),
        ("DELETE FROM top_up", "posting top_up 1 on account 4"),
        ("UPDATE balance SET limit_picousd = 6 WHERE holder_id = 4", "balance of account 4"),
        ("UPDATE api_key SET limit_picousd = 1 WHERE id = 1", "balance of key 1"),
        (
            "UPDATE balance SET spent_picousd = spent_picousd + 1 WHERE spent_picousd > 0",
            "balance of key 1",
        ),
        ("UPDATE balance SET held_picousd = 0", "balance of account 3"),
        ("DELETE FROM balance", "balance of account 3"),
    ],
)
async def test_tampering_is_found(books: Books, statement: str, subject: str) -> None:
    """Whatever single row somebody alters, the audit names what no longer agrees with it."""
    await use_everything(books)
    await books.tamper(statement)
    assert subject in {difference.subject for difference in await audit_differences(books.ledger)}


async def test_difference_tells_both_numbers(books: Books) -> None:
    """A finding says what is there and what should be, so that one can look it up."""
    await use_everything(books)
    await books.tamper("UPDATE request SET cost_picousd = 1 WHERE state = 'SETTLED'")
    assert "request settled: costs 1 pico-USD, but its tokens come to 354930000 pico-USD" in [
        str(difference) for difference in await audit_differences(books.ledger)
    ]


async def test_hold_past_its_lease_is_found(books: Books) -> None:
    """A hold that outlives every possible request is reported as left behind."""
    await books.hold(request_id="left")
    books.clock.advance(LEASE_MS / 1000)
    assert ["request left"] == [
        difference.subject for difference in await audit_differences(books.ledger)
    ]
