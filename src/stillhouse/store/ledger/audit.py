"""Runs audit queries; each returns the rows that contradict others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, case, func, select

from stillhouse.store.accounts import accounts, keys, scopes
from stillhouse.store.ledger import archive, balances, usage_days
from stillhouse.store.ledger.balances import Balance, BalanceKey
from stillhouse.store.ledger.entries import CHARGE, FUNDING_ACCOUNT_ID, REVENUE_ACCOUNT_ID, TOP_UP
from stillhouse.store.ledger.requests import IS_HELD, SETTLED
from stillhouse.store.ledger.usage_days import DAY_MS, DayKey, DaySums
from stillhouse.store.tables import entry, price_version, request, scope, top_up


class Wrong(NamedTuple):
    """A value that contradicts other rows."""

    subject: str
    found: int | None
    expected: int


_uncached_tokens = request.c.prompt_tokens - request.c.cached_tokens
_price_of_usage = (
    _uncached_tokens * price_version.c.input_picousd
    + request.c.cached_tokens * price_version.c.cached_input_picousd
    + request.c.completion_tokens * price_version.c.output_picousd
)
_due_cost = case(
    # An engine that reports more than was held for is an alarm, but no reason to break a limit.
    (_price_of_usage > request.c.hold_picousd, request.c.hold_picousd),
    else_=_price_of_usage,
)


def fetch_wrong_costs(connection: Connection) -> list[Wrong]:
    """Returns settled requests whose cost is not their tokens at their price version."""
    query = (
        select(request.c.request_id, request.c.cost_picousd, _due_cost)
        .join_from(request, price_version, request.c.price_version == price_version.c.version)
        .where(request.c.state == SETTLED, request.c.cost_picousd != _due_cost)
    )
    return [Wrong(*row) for row in connection.execute(query)]


def fetch_wrong_charges(connection: Connection) -> list[Wrong]:
    """Returns requests whose account's entry is not their cost; a missing entry counts as 0."""
    of_request = and_(
        entry.c.kind == CHARGE,
        entry.c.reference == request.c.number,
        entry.c.account_id == request.c.account_id,
    )
    charged = func.coalesce(-entry.c.amount_picousd, 0)
    cost = func.coalesce(request.c.cost_picousd, 0)
    query = (
        select(request.c.request_id, charged, cost)
        .join_from(request, entry, of_request, isouter=True)
        .where(charged != cost)
    )
    return [Wrong(*row) for row in connection.execute(query)]


def fetch_wrong_top_ups(connection: Connection) -> list[Wrong]:
    """Returns top-ups whose account's entry is not the amount that was paid in."""
    of_top_up = and_(
        entry.c.kind == TOP_UP,
        entry.c.reference == top_up.c.number,
        entry.c.account_id == top_up.c.account_id,
    )
    credited = func.coalesce(entry.c.amount_picousd, 0)
    query = (
        select(top_up.c.number, credited, top_up.c.amount_picousd)
        .join_from(top_up, entry, of_top_up, isouter=True)
        .where(credited != top_up.c.amount_picousd)
    )
    return [Wrong(str(number), *sums) for number, *sums in connection.execute(query)]


def fetch_unbalanced_postings(connection: Connection) -> list[Wrong]:
    """Returns postings whose entries do not sum to zero."""
    total = func.sum(entry.c.amount_picousd)
    query = (
        select(entry.c.kind, entry.c.reference, total)
        .group_by(entry.c.kind, entry.c.reference)
        .having(total != 0)
    )
    rows = connection.execute(query)
    return [Wrong(f"{kind} {reference}", int(found), 0) for kind, reference, found in rows]


def fetch_stray_entries(connection: Connection) -> list[Wrong]:
    """Returns entries that belong to no request or top-up, or to an account outside it."""
    query = (
        select(entry.c.kind, entry.c.reference, entry.c.account_id, entry.c.amount_picousd)
        .join_from(
            entry,
            request,
            and_(entry.c.kind == CHARGE, entry.c.reference == request.c.number),
            isouter=True,
        )
        .join(
            top_up, and_(entry.c.kind == TOP_UP, entry.c.reference == top_up.c.number), isouter=True
        )
        .where(
            entry.c.account_id != func.coalesce(request.c.account_id, top_up.c.account_id, 0),
            entry.c.account_id
            != case(
                (request.c.number.is_not(None), REVENUE_ACCOUNT_ID),
                (top_up.c.number.is_not(None), FUNDING_ACCOUNT_ID),
                else_=0,
            ),
        )
    )
    return [
        Wrong(f"{kind} {reference} on account {account_id}", amount, 0)
        for kind, reference, account_id, amount in connection.execute(query)
    ]


def fetch_foreign_scopes(connection: Connection) -> list[str]:
    """Returns the ids of requests whose scope belongs to another key."""
    query = (
        select(request.c.request_id)
        .join_from(request, scope, request.c.scope_id == scope.c.id)
        .where(request.c.key_id != scope.c.key_id)
    )
    return list(connection.scalars(query))


def fetch_overdue_holds(connection: Connection, *, now_ms: int) -> list[str]:
    """Returns the ids of requests that hold money after their leases have expired."""
    query = select(request.c.request_id).where(IS_HELD, request.c.lease_until_ms <= now_ms)
    return list(connection.scalars(query))


def recompute_days(connection: Connection) -> dict[DayKey, DaySums]:
    """Returns every day's sums, of present and of archived requests."""
    days = usage_days.recompute(connection)
    for key, moved in archive.fetch_days(connection).items():
        kept = days.get(key)
        sums = zip(kept, moved, strict=True) if kept else ((amount, 0) for amount in moved)
        days[key] = DaySums(*(a + b for a, b in sums))
    return days


def fetch_wrong_archives(connection: Connection) -> list[Wrong]:
    """
    Returns archives that do not sum to zero, and accounts whose amounts differ from their days'.

    The sums of an account's archived requests are stored twice, in independent tables.
    """
    wrong = [
        Wrong(f"number {number}", found, 0)
        for number, found in archive.fetch_unbalanced(connection)
    ]
    account_of = {key.id: key.account_id for key in keys.fetch_keys(connection)}
    cost = Counter[int]()
    for day, sums in archive.fetch_days(connection).items():
        cost[account_of[day.key_id]] += sums.cost_picousd
    spent = archive.fetch_spent(connection, balances.ACCOUNT)
    spent.pop(REVENUE_ACCOUNT_ID, None)
    return wrong + [
        Wrong(f"of account {account_id}", spent.get(account_id, 0), cost[account_id])
        for account_id in sorted(spent.keys() | cost.keys())
        if spent.get(account_id, 0) != cost[account_id]
    ]


def recompute_balances(
    connection: Connection, kept: Iterable[BalanceKey], days: Mapping[DayKey, DaySums]
) -> dict[BalanceKey, Balance]:
    """
    Computes the balances of accounts and limited scopes, and of the keys in *kept*, from scratch.

    An account has spent what its entries say; a key or scope what its requests cost. They hold what
    their unresolved requests hold.

    Args:
        days: The use of each key, summed from its requests.

    """
    spent = Counter(archive.fetch_spent(connection, balances.ACCOUNT))
    spent.update(
        _sum_by(connection, entry.c.account_id, -entry.c.amount_picousd, entry.c.kind == CHARGE)
    )
    paid_in = _sum_by(
        connection, entry.c.account_id, entry.c.amount_picousd, entry.c.kind == TOP_UP
    )
    held = _sum_by(connection, request.c.account_id, request.c.hold_picousd, IS_HELD)
    recomputed = {
        BalanceKey(balances.ACCOUNT, customer.id, balances.ALL_TIME): Balance(
            spent.get(customer.id, 0),
            held.get(customer.id, 0),
            paid_in.get(customer.id, 0) if customer.is_prepaid else None,
        )
        for customer in accounts.fetch_customers(connection)
    }
    limits = {key.id: key.limit for key in keys.fetch_keys(connection)}
    for key in kept:
        if key.holder == balances.KEY:
            limit = limits.get(key.holder_id)
            recomputed[key] = Balance(
                _cost_of_key(days, key),
                sum_held_of_key(connection, key),
                limit.amount_picousd if limit else None,
            )
    return recomputed | _recompute_scopes(connection)


def sum_held_of_key(connection: Connection, key: BalanceKey) -> int:
    """Returns the amount that a key's unresolved requests of a period hold."""
    first_day, end_day = balances.days_of(key.period)
    query = select(func.coalesce(func.sum(request.c.hold_picousd), 0)).where(
        IS_HELD,
        request.c.key_id == key.holder_id,
        request.c.created_at_ms >= first_day * DAY_MS,
        request.c.created_at_ms < end_day * DAY_MS,
    )
    return int(connection.execute(query).scalar_one())


def _recompute_scopes(connection: Connection) -> dict[BalanceKey, Balance]:
    limited = [row for row in scopes.fetch_all(connection) if row.limit_picousd is not None]
    if not limited:
        return {}
    is_scoped = request.c.scope_id.is_not(None)
    spent = Counter(archive.fetch_spent(connection, balances.SCOPE))
    spent.update(_sum_by(connection, request.c.scope_id, request.c.cost_picousd, is_scoped))
    is_held = and_(is_scoped, IS_HELD)
    held = _sum_by(connection, request.c.scope_id, request.c.hold_picousd, is_held)
    return {
        BalanceKey(balances.SCOPE, row.id, balances.ALL_TIME): Balance(
            spent.get(row.id, 0), held.get(row.id, 0), row.limit_picousd
        )
        for row in limited
    }


def _cost_of_key(days: Mapping[DayKey, DaySums], key: BalanceKey) -> int:
    first_day, end_day = balances.days_of(key.period)
    return sum(
        sums.cost_picousd
        for day, sums in days.items()
        if day.key_id == key.holder_id and first_day <= day.day < end_day
    )


def _sum_by(
    connection: Connection,
    group: ColumnElement[int],
    amount: ColumnElement[int],
    condition: ColumnElement[bool],
) -> dict[int, int]:
    rows = connection.execute(select(group, func.sum(amount)).where(condition).group_by(group))
    # PostgreSQL sums bigints to a Decimal.
    return {key: int(total or 0) for key, total in rows}
