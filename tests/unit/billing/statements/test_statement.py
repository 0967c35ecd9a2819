from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from stillhouse.billing.outcome import Outcome
from stillhouse.billing.statements.month import Month
from stillhouse.billing.statements.statement import Statements
from stillhouse.types.service_tier import ServiceTier
from stillhouse.types.usage import TokenUsage
from tests.tariffs import usd_tariff
from tests.unit.billing.conftest import MODEL, Books

MONTHS = st.builds(
    Month, st.integers(min_value=1970, max_value=9998), st.integers(min_value=1, max_value=12)
)


@given(month=MONTHS, number=st.integers(min_value=-100, max_value=100))
def test_months_follow_each_other(month: Month, number: int) -> None:
    """A month ends where the next one begins, and counting there and back changes nothing."""
    assert month.end_ms == month.later(1).begin_ms
    assert month == month.later(number).later(-number)
    assert month == Month.parse(str(month))


@given(month=MONTHS, share=st.fractions(min_value=0, max_value=1))
def test_every_moment_is_in_one_month(month: Month, share: Fraction) -> None:
    """Every moment from a month's first up to but not including its end is in that month."""
    last_ms = month.end_ms - 1
    moment_ms = month.begin_ms + int(share * (last_ms - month.begin_ms))
    assert {month} == {Month.of(at_ms) for at_ms in (month.begin_ms, moment_ms, last_ms)}
    assert month.later(1) == Month.of(month.end_ms)


async def test_amounts_of_a_line_come_to_its_cost(verified: Books) -> None:
    """What each kind of token comes to is exact, and together they are what was charged."""
    tariff = usd_tariff("3", "7", cached_input_usd="1")
    verified.price = (await verified.ledger.prices.publish({MODEL: tariff}))[MODEL][
        ServiceTier.DEFAULT
    ]
    for _ in range(3):
        hold = await verified.hold()
        usage = TokenUsage(prompt_tokens=149, cached_tokens=100, completion_tokens=338)
        await verified.ledger.settle(hold, usage=usage, outcome=Outcome.STOP)
    statements = Statements(verified.database)
    statement = await statements.of(Month.of(verified.clock.now_ms()), key_id=verified.key_id)
    (line,) = statement.lines
    assert [
        ("input", 3 * 49, 3_000_000),
        ("cached_input", 300, 1_000_000),
        ("output", 3 * 338, 7_000_000),
    ] == list(line.items)
    assert statement.cost_picousd == sum(item.amount_picousd for item in line.items)
    assert 0 == line.waived_picousd


async def test_what_was_used_beyond_the_hold_is_waived(books: Books) -> None:
    """Tokens above the highest cost that a request was admitted at stand there, and are not due."""
    hold = await books.hold(max_tokens=10)
    usage = TokenUsage(prompt_tokens=149, completion_tokens=12)
    await books.ledger.settle(hold, usage=usage, outcome=Outcome.STOP)
    statement = await Statements(books.database).of(Month.of(books.clock.now_ms()))
    (line,) = statement.lines
    assert (hold.ceiling_picousd, 2 * 790_000) == (line.cost_picousd, line.waived_picousd)


async def test_month_without_charges_has_no_lines(verified: Books) -> None:
    """What runs still, or failed through us, is on no invoice."""
    failed = await verified.hold()
    await verified.ledger.void(failed, outcome=Outcome.ENGINE_ERROR, usage=TokenUsage(149, 0, 5))
    await verified.hold()
    statement = await Statements(verified.database).of(Month.of(verified.clock.now_ms()))
    assert ((), 0) == (statement.lines, statement.cost_picousd)
