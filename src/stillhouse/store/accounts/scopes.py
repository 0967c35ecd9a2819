"""Reads and writes scopes: the rights of signed tokens, identified by their fingerprints."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import (
    Connection,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)

from stillhouse.store.backends.prepared import Prepared
from stillhouse.store.ledger import balances
from stillhouse.store.ledger.balances import ALL_TIME, SCOPE, Balance, BalanceKey
from stillhouse.store.ledger.requests import IS_HELD
from stillhouse.store.tables import request, scope


@dataclass(frozen=True, slots=True)
class TokenScope:
    """
    A scope as its token describes it; it may have no row yet.

    Args:
        limit_picousd: The most it may spend in total; None if only its key and account limit it.

    """

    fingerprint: bytes
    limit_picousd: int | None
    expires_at_ms: int


@dataclass(frozen=True, slots=True)
class ScopeRow:
    """
    A scope that was spent from.

    Args:
        limit_picousd: The most it may spend in total; None if only its key and account limit it.
        expires_at_ms: None where an older stillhouse made the row.

    """

    id: int
    key_id: int
    limit_picousd: int | None
    expires_at_ms: int | None


_SELECT = select(scope.c.id, scope.c.key_id, scope.c.limit_picousd, scope.c.expires_at_ms)
_SELECT_BY_FINGERPRINT = Prepared(_SELECT.where(scope.c.fingerprint == bindparam("of_fingerprint")))
_SET_END = update(scope).where(scope.c.id == bindparam("of_id"))

# The newest row stays: SQLite gives the number after the highest one, and a request must never
# seem to have been made with a scope that came after its own.
_SELECT_EXPIRED = (
    select(scope.c.id)
    .where(
        scope.c.expires_at_ms < bindparam("before"),
        scope.c.id < select(func.max(scope.c.id)).scalar_subquery(),
        scope.c.id.not_in(
            select(request.c.scope_id).where(IS_HELD, request.c.scope_id.is_not(None))
        ),
    )
    .limit(bindparam("at_most"))
)


def ensure(
    connection: Connection, token: TokenScope, *, key_id: int, created_at_ms: int
) -> ScopeRow:
    """Returns the scope of a token; inserts it with an empty balance unless it exists."""
    found = _SELECT_BY_FINGERPRINT.run(connection, {"of_fingerprint": token.fingerprint}).fetchone()
    if found is None:
        return _insert(connection, token, key_id=key_id, created_at_ms=created_at_ms)
    row = ScopeRow(*found)
    if row.expires_at_ms is None:
        connection.execute(_SET_END, {"of_id": row.id, "expires_at_ms": token.expires_at_ms})
    return row


def fetch_all(connection: Connection) -> list[ScopeRow]:
    """Returns every scope, oldest first."""
    return [ScopeRow(*row) for row in connection.execute(_SELECT.order_by(scope.c.id))]


def delete_expired(connection: Connection, *, before_ms: int, at_most: int) -> int:
    """
    Deletes scopes, with their balances, that have expired before a time, and returns how many.

    Their requests stay, with their numbers, and so does all that was spent.
    """
    parameters = {"before": before_ms, "at_most": at_most}
    expired = list(connection.scalars(_SELECT_EXPIRED, parameters))
    balances.delete_of_holders(connection, SCOPE, expired)
    connection.execute(delete(scope).where(scope.c.id.in_(expired)))
    return len(expired)


def _insert(
    connection: Connection, token: TokenScope, *, key_id: int, created_at_ms: int
) -> ScopeRow:
    row = {
        "key_id": key_id,
        "fingerprint": token.fingerprint,
        "limit_picousd": token.limit_picousd,
        "created_at_ms": created_at_ms,
        "expires_at_ms": token.expires_at_ms,
    }
    scope_id = connection.execute(insert(scope).returning(scope.c.id), row).scalar_one()
    if token.limit_picousd is not None:
        of_scope = BalanceKey(SCOPE, scope_id, ALL_TIME)
        balances.insert_row(connection, of_scope, Balance(0, 0, token.limit_picousd))
    return ScopeRow(scope_id, key_id, token.limit_picousd, token.expires_at_ms)
