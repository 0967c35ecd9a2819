from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.cli.options import day_ms, duration_ms, model_ids, usd_amount
from stillhouse.money import MAX_PICOUSD, format_usd

DAY_MS = 86_400_000


@given(st.integers(min_value=0, max_value=MAX_PICOUSD))
def test_every_amount_can_be_written_and_read(picousd):
    """Whatever amount is shown can be given back, to the pico-dollar."""
    assert picousd == usd_amount(format_usd(picousd))


@pytest.mark.parametrize(
    ("text", "usd"),
    [("0", "0"), ("12.50", "12.5"), ("$3", "3"), ("1e-12", "1E-12"), ("1000000", "1000000")],
)
def test_amounts(text, usd):
    """An amount is read as it is written, never by way of a float."""
    assert int(Decimal(usd) * 10**12) == usd_amount(text)


@pytest.mark.parametrize(
    "text",
    ["", "-1", "ten", "NaN", "Infinity", "1e-13", "1000000.1", "1e99999", "0." + "0" * 40 + "1"],
)
def test_no_amounts(text):
    """What is negative, too fine, too much or no number is refused."""
    with pytest.raises(typer.BadParameter):
        usd_amount(text)


@pytest.mark.parametrize(
    ("text", "expected_ms"),
    [("45m", 2_700_000), ("12h", DAY_MS // 2), ("30d", 30 * DAY_MS), ("8w", 56 * DAY_MS)],
)
def test_durations(text, expected_ms):
    """Durations are a number and a unit."""
    assert expected_ms == duration_ms(text)


@pytest.mark.parametrize("text", ["", "0d", "d", "-1d", "1.5d", "30", "30 d", "30y", "9999999d"])
def test_no_durations(text):
    """A duration without a unit, or of nothing, is refused."""
    with pytest.raises(typer.BadParameter):
        duration_ms(text)


@pytest.mark.parametrize("text", ["a/b,c/d", "c/d, a/b"])
def test_models(text):
    """Models are named between commas, in any order."""
    assert {"a/b", "c/d"} == model_ids(text)


@pytest.mark.parametrize("text", ["", ",", "a/b,", " "])
def test_no_models(text):
    """A list that names nothing somewhere is refused, as it might mean every model or none."""
    with pytest.raises(typer.BadParameter):
        model_ids(text)


@given(st.dates())
def test_every_day(day):
    """A day is its first moment in UTC; a month is its first day's."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    assert midnight.timestamp() * 1000 == day_ms(day.isoformat())
    first = midnight.replace(day=1)
    assert first.timestamp() * 1000 == day_ms(day.isoformat()[:7])


@pytest.mark.parametrize("text", ["", "2026", "2026-13", "2026-11-31", "November", "2026-W01-1"])
def test_no_days(text):
    """What names no day of the calendar is refused."""
    with pytest.raises(typer.BadParameter):
        day_ms(text)
