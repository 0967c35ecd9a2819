"""
What every holder has spent and holds.

A holder is an account, or a key that has a limit of its own. The rows are derived from requests and
entries; they exist so that the check of a limit and the hold under it are one statement.
"""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import Connection, and_, bindparam, insert, or_, update

from stillhouse.store.prepared import Prepared
from stillhouse.store.requests import HeldRequest
from stillhouse.store.tables import balance

ACCOUNT = "account"
KEY = "key"

#: The period of a balance that never starts anew.
ALL_TIME = 0

#: Later than every request: the year 10000.
END_OF_TIME_MS = 253_402_300_800_000

_FREE = or_(
    balance.c.limit_picousd.is_(None),
    balance.c.spent_picousd + balance.c.held_picousd + bindparam("amount")
    <= balance.c.limit_picousd,
)
_RESERVE = Prepared(
    update(balance)
    .where(
        balance.c.holder == bindparam("the_holder"),
        balance.c.holder_id == bindparam("the_id"),
        balance.c.period == bindparam("the_period"),
        _FREE,
    )
    .values(held_picousd=balance.c.held_picousd + bindparam("amount"))
)
_RELEASE = Prepared(
    update(balance)
    .where(
        or_(
            and_(
                balance.c.holder == ACCOUNT,
                balance.c.holder_id == bindparam("the_account"),
                balance.c.period == ALL_TIME,
            ),
            and_(
                balance.c.holder == KEY,
                balance.c.holder_id == bindparam("the_key"),
                balance.c.period.in_([bindparam("always"), bindparam("month")]),
            ),
        )
    )
    .values(
        held_picousd=balance.c.held_picousd - bindparam("hold"),
        spent_picousd=balance.c.spent_picousd + bindparam("cost"),
    )
)


def month_of(at_ms: int) -> int:
    """The calendar month in UTC as a balance's period: 202611 is November 2026."""
    moment = datetime.fromtimestamp(at_ms / 1000, UTC)
    return moment.year * 100 + moment.month


def span_of(period: int) -> tuple[int, int]:
    """When a period begins and when it has ended, as milliseconds since 1970."""
    if period == ALL_TIME:
        return 0, END_OF_TIME_MS
    year, month = divmod(period, 100)
    begin = datetime(year, month, 1, tzinfo=UTC)
    end = datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
    return int(begin.timestamp()) * 1000, int(end.timestamp()) * 1000


def insert_account(
    connection: Connection, account_id: int, *, limit_picousd: int | None = None
) -> None:
    """Start an account's balance at nothing spent; no limit when it pays afterwards."""
    row = {
        "holder": ACCOUNT,
        "holder_id": account_id,
        "period": ALL_TIME,
        "spent_picousd": 0,
        "held_picousd": 0,
        "limit_picousd": limit_picousd,
    }
    connection.execute(insert(balance), row)


def reserve(connection: Connection, account_id: int, amount_picousd: int) -> bool:
    """Hold an amount on an account if its limit covers it; one statement, so none can race it."""
    row = {
        "the_holder": ACCOUNT,
        "the_id": account_id,
        "the_period": ALL_TIME,
        "amount": amount_picousd,
    }
    return _RESERVE.run(connection, row).rowcount == 1


def release(connection: Connection, held: HeldRequest, *, cost_picousd: int) -> None:
    """Give back what a request held and count its cost as spent, on each balance it touches."""
    row = {
        "the_account": held.account_id,
        "the_key": held.key_id,
        "always": ALL_TIME,
        "month": month_of(held.created_at_ms),
        "hold": held.hold_picousd,
        "cost": cost_picousd,
    }
    _RELEASE.run(connection, row)
