"""
Reads and writes balances: the amounts that each holder has spent and holds.

A holder is an account, or a key or a scope that has a limit of its own. The rows are derived from
requests and entries; they exist so that the check of a limit and the hold under it are one
statement.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import NamedTuple

from sqlalchemy import Connection, and_, bindparam, delete, insert, or_, select, update

from stillhouse.store.backends.prepared import Prepared
from stillhouse.store.ledger.requests import HeldRequest
from stillhouse.store.tables import balance

ACCOUNT = "account"
KEY = "key"
SCOPE = "scope"

#: The period of a balance that never starts anew.
ALL_TIME = 0

#: Later than every request: in the year 9999.
_END_OF_TIME_DAY = 2_932_532


class BalanceKey(NamedTuple):
    """The holder of a balance, and its period: `ALL_TIME`, or a month from `month_of`."""

    holder: str
    holder_id: int
    period: int


class Balance(NamedTuple):
    """The amounts that a holder has spent, holds, and may spend at most (None: no limit)."""

    spent_picousd: int
    held_picousd: int
    limit_picousd: int | None


_THIS_ROW = and_(
    balance.c.holder == bindparam("the_holder"),
    balance.c.holder_id == bindparam("the_id"),
    balance.c.period == bindparam("the_period"),
)
_RESERVE = Prepared(
    update(balance)
    .where(
        _THIS_ROW,
        or_(
            balance.c.limit_picousd.is_(None),
            balance.c.spent_picousd + balance.c.held_picousd + bindparam("amount")
            <= balance.c.limit_picousd,
        ),
    )
    .values(held_picousd=balance.c.held_picousd + bindparam("amount"))
)
_TOUCHED = or_(
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
    and_(
        balance.c.holder == SCOPE,
        balance.c.holder_id == bindparam("the_scope"),
        balance.c.period == ALL_TIME,
    ),
)
_SELECT_TOO_SMALL = select(balance.c.holder).where(
    _TOUCHED,
    balance.c.spent_picousd + balance.c.held_picousd + bindparam("amount")
    > balance.c.limit_picousd,
)
_RELEASE = Prepared(
    update(balance)
    .where(_TOUCHED)
    .values(
        held_picousd=balance.c.held_picousd - bindparam("hold"),
        spent_picousd=balance.c.spent_picousd + bindparam("cost"),
    )
)


def month_of(at_ms: int) -> int:
    """Returns the calendar month (UTC) as a balance's period: 202611 is November 2026."""
    moment = datetime.fromtimestamp(at_ms / 1000, UTC)
    return moment.year * 100 + moment.month


def days_of(period: int) -> tuple[int, int]:
    """Returns the first day of a period, counted from 1970, and the first day after it."""
    if period == ALL_TIME:
        return 0, _END_OF_TIME_DAY
    year, month = divmod(period, 100)
    return _day(year, month), _day(year + month // 12, month % 12 + 1)


def reserve(connection: Connection, key: BalanceKey, amount_picousd: int) -> bool:
    """
    Holds an amount if the limit covers it, in one atomic statement.

    Returns False as well if there is no such balance.
    """
    row = {**_named(key), "amount": amount_picousd}
    return _RESERVE.run(connection, row).rowcount == 1


def release(connection: Connection, held: HeldRequest, *, cost_picousd: int) -> None:
    """Releases a request's hold and counts its cost as spent, on each balance it touches."""
    _change(connection, held, hold_picousd=held.hold_picousd, cost_picousd=cost_picousd)


def cover(connection: Connection, held: HeldRequest, amount_picousd: int) -> bool:
    """Returns whether each balance that a request touches covers an amount more, until COMMIT."""
    row = {**_touched_by(held), "amount": amount_picousd}
    return connection.execute(_SELECT_TOO_SMALL, row).first() is None


def hold_again(connection: Connection, held: HeldRequest) -> None:
    """Holds a voided request's amount again, on each balance it touches."""
    _change(connection, held, hold_picousd=-held.hold_picousd, cost_picousd=0)


def charge_late(connection: Connection, held: HeldRequest, *, cost_picousd: int) -> None:
    """Counts the cost of a request without a hold, on each balance it touches."""
    _change(connection, held, hold_picousd=0, cost_picousd=cost_picousd)


def insert_row(connection: Connection, key: BalanceKey, begin: Balance) -> None:
    """
    Inserts a balance with the amounts that are already spent and held.

    Raises:
        IntegrityError: The amounts are above the limit.

    """
    connection.execute(insert(balance), {**key._asdict(), **begin._asdict()})


def has_row(connection: Connection, key: BalanceKey) -> bool:
    """Returns whether the balance exists."""
    query = select(balance.c.period).where(_THIS_ROW)
    return connection.execute(query, _named(key)).one_or_none() is not None


def raise_limit(connection: Connection, key: BalanceKey, amount_picousd: int) -> None:
    """Raises a holder's limit."""
    query = (
        update(balance)
        .where(_THIS_ROW)
        .values(limit_picousd=balance.c.limit_picousd + bindparam("amount"))
    )
    connection.execute(query, {**_named(key), "amount": amount_picousd})


def delete_rows(connection: Connection, holder: str, holder_id: int) -> None:
    """Deletes a holder's balances, which can be summed again from its requests and entries."""
    connection.execute(
        delete(balance).where(balance.c.holder == holder, balance.c.holder_id == holder_id)
    )


def delete_of_holders(connection: Connection, holder: str, holder_ids: Sequence[int]) -> None:
    """Deletes the balances of several holders."""
    connection.execute(
        delete(balance).where(balance.c.holder == holder, balance.c.holder_id.in_(holder_ids))
    )


def fetch_all(connection: Connection) -> dict[BalanceKey, Balance]:
    """Returns every stored balance."""
    query = select(
        balance.c.holder,
        balance.c.holder_id,
        balance.c.period,
        balance.c.spent_picousd,
        balance.c.held_picousd,
        balance.c.limit_picousd,
    )
    return {BalanceKey(*row[:3]): Balance(*row[3:]) for row in connection.execute(query)}


def delete_row(connection: Connection, key: BalanceKey) -> None:
    """Deletes one balance of a holder."""
    connection.execute(delete(balance).where(_THIS_ROW), _named(key))


def correct(
    connection: Connection, key: BalanceKey, kept: Balance | None, due: Balance | None
) -> None:
    """
    Changes a balance by the difference between *due* and *kept*, whatever its present value.

    Args:
        kept: The balance when *due* was computed; None if it was missing.
        due: The right balance at that time; None if there should be none.

    Raises:
        IntegrityError: It would be above its limit, or below nothing.

    """
    if due is None:
        delete_row(connection, key)
    elif kept is None:
        if not has_row(connection, key):
            insert_row(connection, key, due)
    else:
        limit: object = due.limit_picousd
        if due.limit_picousd is not None and kept.limit_picousd is not None:
            limit = balance.c.limit_picousd + due.limit_picousd - kept.limit_picousd
        query = (
            update(balance)
            .where(_THIS_ROW)
            .values(
                spent_picousd=balance.c.spent_picousd + due.spent_picousd - kept.spent_picousd,
                held_picousd=balance.c.held_picousd + due.held_picousd - kept.held_picousd,
                limit_picousd=limit,
            )
        )
        connection.execute(query, _named(key))


def _change(
    connection: Connection, held: HeldRequest, *, hold_picousd: int, cost_picousd: int
) -> None:
    _RELEASE.run(connection, {**_touched_by(held), "hold": hold_picousd, "cost": cost_picousd})


def _touched_by(held: HeldRequest) -> dict[str, int]:
    return {
        "the_account": held.account_id,
        "the_key": held.key_id,
        "the_scope": held.scope_id or 0,  # no row has the number 0
        "always": ALL_TIME,
        "month": month_of(held.created_at_ms),
    }


def _named(key: BalanceKey) -> dict[str, str | int]:
    return {"the_holder": key.holder, "the_id": key.holder_id, "the_period": key.period}


def _day(year: int, month: int) -> int:
    return (date(year, month, 1) - date(1970, 1, 1)).days
