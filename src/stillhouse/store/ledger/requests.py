"""
Writes request rows: HELD before the engine starts, then SETTLED or VOIDED once.

The one exception is a request whose hold has *expired*: a sweep voided it because its lease had
ended, on the assumption that its gateway is dead. A gateway that is alive may resolve it, once.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection, and_, bindparam, insert, literal_column, select, update

from stillhouse.store.backends.prepared import Prepared
from stillhouse.store.backends.timeouts import extend_timeout
from stillhouse.store.tables import request
from stillhouse.types.usage import TokenUsage

HELD = "HELD"
SETTLED = "SETTLED"
VOIDED = "VOIDED"

#: Written out: no database sees that an index of held requests would do where the state is bound.
IS_HELD = request.c.state == literal_column("'HELD'")

#: The outcome of a request that a sweep voided.
LOST_OUTCOME = "gateway_lost"

#: The most values in one statement; SQLite's own limit is 32,766, and PostgreSQL's 65,535.
_MAX_VALUES = 1_000


@dataclass(frozen=True, slots=True)
class HeldRequest:
    """
    A request that is not resolved yet.

    Args:
        number: The row's own number; entries refer to it.
        hold_picousd: The highest possible cost, reserved until the request is resolved.
        created_at_ms: Decides which month's limit the request counts towards.
        scope_id: The scoped token that it was made with; None when it was the key itself.

    """

    number: int
    account_id: int
    key_id: int
    price_version: int
    hold_picousd: int
    created_at_ms: int
    scope_id: int | None = None


@dataclass(frozen=True, slots=True)
class Resolution:
    """
    How a request ended.

    Args:
        usage: None if the generated tokens were not counted.
        usage_source: The counter of the tokens; None exactly if `usage` is.

    """

    state: str
    outcome: str
    cost_picousd: int
    usage: TokenUsage | None
    usage_source: str | None
    resolved_at_ms: int


class Counted(NamedTuple):
    """A request's count of generated tokens and its source; None if they were not counted."""

    request_id: str
    state: str
    completion_tokens: int | None
    usage_source: str | None


_INSERT = Prepared(
    insert(request).returning(request.c.number),
    "request_id",
    "account_id",
    "key_id",
    "price_version",
    "state",
    "hold_picousd",
    "created_at_ms",
    "lease_until_ms",
    "scope_id",
)
_RESOLVE = Prepared(
    update(request)
    .where(request.c.number == bindparam("row_number"), request.c.state == HELD)
    .values(lease_until_ms=None),
    "state",
    "outcome",
    "cost_picousd",
    "prompt_tokens",
    "cached_tokens",
    "completion_tokens",
    "usage_source",
    "resolved_at_ms",
)
_SELECT_COST = select(request.c.cost_picousd).where(request.c.number == bindparam("row_number"))
_SELECT_HELD = (
    select(
        request.c.number,
        request.c.account_id,
        request.c.key_id,
        request.c.price_version,
        request.c.hold_picousd,
        request.c.created_at_ms,
        request.c.scope_id,
    )
    .where(IS_HELD, request.c.lease_until_ms <= bindparam("until"))
    # As the index is: by number, SQLite would rather read every request that there is.
    .order_by(request.c.lease_until_ms)
    .limit(bindparam("at_most"))
)
#: While its usage is unknown. A trigger refuses changes to all other resolved requests.
_IS_EXPIRED = and_(
    request.c.state == VOIDED,
    request.c.outcome == LOST_OUTCOME,
    request.c.completion_tokens.is_(None),
)
_RENEW = (
    update(request)
    .where(request.c.state == HELD, request.c.number.in_(bindparam("numbers", expanding=True)))
    .values(lease_until_ms=bindparam("until"))
)


def insert_held(  # noqa: PLR0913 - one argument per column
    connection: Connection,
    *,
    request_id: str,
    account_id: int,
    key_id: int,
    price_version: int,
    hold_picousd: int,
    created_at_ms: int,
    lease_until_ms: int,
    scope_id: int | None = None,
) -> HeldRequest:
    """
    Inserts a request that holds *hold_picousd*.

    Raises:
        IntegrityError: The request's id, which is unique for ever, exists.

    """
    row = {
        "request_id": request_id,
        "account_id": account_id,
        "key_id": key_id,
        "price_version": price_version,
        "state": HELD,
        "hold_picousd": hold_picousd,
        "created_at_ms": created_at_ms,
        "lease_until_ms": lease_until_ms,
        "scope_id": scope_id,
    }
    number: int = _INSERT.run(connection, row).fetchone()[0]
    return HeldRequest(
        number, account_id, key_id, price_version, hold_picousd, created_at_ms, scope_id
    )


def resolve(connection: Connection, number: int, resolution: Resolution) -> bool:
    """Resolves a request if it is HELD; False if it was resolved before."""
    row = {"row_number": number, **_columns_of(resolution)}
    return _RESOLVE.run(connection, row).rowcount == 1


def is_expired(connection: Connection, number: int) -> bool:
    """Returns whether a sweep has voided a request, which its gateway has not resolved since."""
    query = select(request.c.number).where(request.c.number == number, _IS_EXPIRED)
    return connection.execute(query).one_or_none() is not None


def resolve_expired(connection: Connection, number: int, resolution: Resolution) -> bool:
    """Resolves a request if its hold has expired; False if it has not."""
    query = (
        update(request)
        .where(request.c.number == number, _IS_EXPIRED)
        .values(**_columns_of(resolution))
    )
    return connection.execute(query).rowcount == 1


def reacquire(connection: Connection, number: int, *, lease_until_ms: int) -> bool:
    """Sets a request to HELD again if its hold has expired; False if it has not."""
    query = (
        update(request)
        .where(request.c.number == number, _IS_EXPIRED)
        .values(
            state=HELD,
            outcome=None,
            cost_picousd=None,
            resolved_at_ms=None,
            lease_until_ms=lease_until_ms,
        )
    )
    return connection.execute(query).rowcount == 1


def fetch_cost_picousd(connection: Connection, number: int) -> int | None:
    """Returns the cost of a resolved request; None if it has been archived."""
    cost: int | None = connection.execute(_SELECT_COST, {"row_number": number}).scalar_one_or_none()
    return cost


def fetch_costs_picousd(
    connection: Connection, account_id: int, request_ids: Collection[str]
) -> dict[str, int]:
    """Returns the costs of an account's resolved requests, by request id."""
    query = select(request.c.request_id, request.c.cost_picousd).where(
        request.c.account_id == account_id,
        request.c.request_id.in_(request_ids),
        request.c.state != HELD,
    )
    return {row.request_id: row.cost_picousd for row in connection.execute(query)}


def fetch_counts(connection: Connection) -> list[Counted]:
    """Returns the recorded generated tokens of every request, oldest first."""
    extend_timeout(connection)
    columns = (request.c[name] for name in Counted._fields)
    return [
        Counted(*row) for row in connection.execute(select(*columns).order_by(request.c.number))
    ]


def fetch_held(connection: Connection, *, lease_until_ms: int, at_most: int) -> list[HeldRequest]:
    """Returns unresolved requests whose leases end no later than a moment, the earliest first."""
    rows = connection.execute(_SELECT_HELD, {"until": lease_until_ms, "at_most": at_most})
    return [HeldRequest(*row) for row in rows]


def renew(connection: Connection, numbers: Sequence[int], *, lease_until_ms: int) -> list[int]:
    """Renews the leases of unresolved requests; returns the requests whose holds have expired."""
    lost: list[int] = []
    for start in range(0, len(numbers), _MAX_VALUES):
        some = numbers[start : start + _MAX_VALUES]
        renewed = connection.execute(_RENEW, {"numbers": some, "until": lease_until_ms})
        if renewed.rowcount < len(some):
            query = select(request.c.number).where(request.c.number.in_(some), _IS_EXPIRED)
            lost += connection.scalars(query.order_by(request.c.number))
    return lost


def _columns_of(resolution: Resolution) -> dict[str, int | str | None]:
    usage = resolution.usage
    return {
        "state": resolution.state,
        "outcome": resolution.outcome,
        "cost_picousd": resolution.cost_picousd,
        "prompt_tokens": usage.prompt_tokens if usage else None,
        "cached_tokens": usage.cached_tokens if usage else None,
        "completion_tokens": usage.completion_tokens if usage else None,
        "usage_source": resolution.usage_source,
        "resolved_at_ms": resolution.resolved_at_ms,
    }
