"""
Keeps sums of each key's use per day (UTC) and price, updated as requests are resolved.

A month's statement is read from a few rows instead of a million requests. Like balances, the sums
are derived from requests and can be made anew from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from sqlalchemy import Connection, and_, bindparam, case, delete, func, insert, select, update

from stillhouse.store.backends.prepared import Prepared
from stillhouse.store.ledger.requests import HELD, SETTLED, VOIDED, HeldRequest, Resolution
from stillhouse.store.tables import request, usage_day

DAY_MS = 86_400_000


class DayKey(NamedTuple):
    """A day, counted from 1970, with a key and a price version."""

    day: int
    key_id: int
    price_version: int


class DaySums(NamedTuple):
    """
    The use of one day.

    Args:
        num_settled: Requests that were charged for, at whatever cost; tokens are theirs.
        num_voided: Requests that failed through us.

    """

    num_settled: int
    num_voided: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    cost_picousd: int


_ADD = Prepared(
    update(usage_day)
    .where(
        usage_day.c.day == bindparam("the_day"),
        usage_day.c.key_id == bindparam("the_key"),
        usage_day.c.price_version == bindparam("the_price"),
    )
    .values({name: usage_day.c[name] + bindparam(f"more_{name}") for name in DaySums._fields})
)


def day_of(at_ms: int) -> int:
    """Returns the days from 1970 to *at_ms*, in UTC."""
    return at_ms // DAY_MS


def add(connection: Connection, held: HeldRequest, resolution: Resolution) -> None:
    """Counts a request that has just been resolved, on the day of its admission."""
    key = DayKey(day_of(held.created_at_ms), held.key_id, held.price_version)
    sums = _sums_of(resolution)
    row = {
        "the_day": key.day,
        "the_key": key.key_id,
        "the_price": key.price_version,
        **{f"more_{name}": value for name, value in sums._asdict().items()},
    }
    if _ADD.run(connection, row).rowcount == 0:
        insert_all(connection, {key: sums})


def forget_voided(connection: Connection, held: HeldRequest) -> None:
    """Uncounts a voided request that is held again."""
    of_day = and_(
        usage_day.c.day == day_of(held.created_at_ms),
        usage_day.c.key_id == held.key_id,
        usage_day.c.price_version == held.price_version,
    )
    one_less = {"num_voided": usage_day.c.num_voided - 1}
    connection.execute(update(usage_day).where(of_day).values(one_less))
    is_empty = and_(usage_day.c.num_settled == 0, usage_day.c.num_voided == 0)
    connection.execute(delete(usage_day).where(of_day, is_empty))


def sum_cost_of_key(connection: Connection, key_id: int, *, from_day: int, to_day: int) -> int:
    """Returns the cost of a key's requests from *from_day* up to but not including *to_day*."""
    query = select(func.coalesce(func.sum(usage_day.c.cost_picousd), 0)).where(
        usage_day.c.key_id == key_id, usage_day.c.day >= from_day, usage_day.c.day < to_day
    )
    return int(connection.execute(query).scalar_one())


def fetch_all(connection: Connection) -> dict[DayKey, DaySums]:
    """Returns every day's stored sums."""
    columns = [usage_day.c[name] for name in (*DayKey._fields, *DaySums._fields)]
    return {DayKey(*row[:3]): DaySums(*row[3:]) for row in connection.execute(select(*columns))}


def recompute(connection: Connection) -> dict[DayKey, DaySums]:
    """Computes every day's sums from scratch."""
    day = request.c.created_at_ms // DAY_MS
    is_settled = request.c.state == SETTLED
    tokens = (request.c.prompt_tokens, request.c.cached_tokens, request.c.completion_tokens)
    query = (
        select(
            day,
            request.c.key_id,
            request.c.price_version,
            func.count(case((is_settled, 1))),
            func.count(case((request.c.state == VOIDED, 1))),
            *(func.coalesce(func.sum(case((is_settled, column))), 0) for column in tokens),
            func.sum(request.c.cost_picousd),
        )
        .where(request.c.state != HELD)
        .group_by(day, request.c.key_id, request.c.price_version)
    )
    return {DayKey(*row[:3]): DaySums(*map(int, row[3:])) for row in connection.execute(query)}


def insert_all(connection: Connection, sums: Mapping[DayKey, DaySums]) -> None:
    """Inserts sums of days that have none."""
    rows = [{**key._asdict(), **of_day._asdict()} for key, of_day in sums.items()]
    if rows:
        connection.execute(insert(usage_day), rows)


def correct(connection: Connection, key: DayKey, by: DaySums) -> None:
    """Adds a difference, which may be negative, to a day's sums."""
    is_this = and_(*(usage_day.c[name] == value for name, value in key._asdict().items()))
    more = {name: usage_day.c[name] + value for name, value in by._asdict().items()}
    if connection.execute(update(usage_day).where(is_this).values(more)).rowcount == 0:
        insert_all(connection, {key: by})
    is_empty = and_(usage_day.c.num_settled == 0, usage_day.c.num_voided == 0)
    connection.execute(delete(usage_day).where(is_this, is_empty))


def _sums_of(resolution: Resolution) -> DaySums:
    usage = resolution.usage
    if resolution.state != SETTLED or usage is None:
        return DaySums(0, 1, 0, 0, 0, 0)
    return DaySums(
        1,
        0,
        usage.prompt_tokens,
        usage.cached_tokens,
        usage.completion_tokens,
        resolution.cost_picousd,
    )
