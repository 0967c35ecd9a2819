"""Scopes: the narrower rights that signed tokens give, each known by its token's fingerprint."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, insert, select

from stillhouse.store import balances
from stillhouse.store.balances import ALL_TIME, SCOPE, Balance, BalanceKey
from stillhouse.store.prepared import Prepared
from stillhouse.store.tables import scope


@dataclass(frozen=True, slots=True)
class ScopeRow:
    """
    A scope.

    Args:
        limit_picousd: What it may spend in total; None leaves it to its key and account.

    """

    id: int
    key_id: int
    limit_picousd: int | None


_SELECT = select(scope.c.id, scope.c.key_id, scope.c.limit_picousd)
_SELECT_BY_FINGERPRINT = _SELECT.where(scope.c.fingerprint == bindparam("of_fingerprint"))
_SELECT_LIMIT = Prepared(select(scope.c.limit_picousd).where(scope.c.id == bindparam("of_id")))


def fetch_by_fingerprint(connection: Connection, fingerprint: bytes) -> ScopeRow | None:
    """The scope whose token has this fingerprint, once that was minted or used here."""
    parameters = {"of_fingerprint": fingerprint}
    row = connection.execute(_SELECT_BY_FINGERPRINT, parameters).one_or_none()
    return ScopeRow(*row) if row else None


def ensure(
    connection: Connection,
    *,
    fingerprint: bytes,
    key_id: int,
    limit_picousd: int | None,
    created_at_ms: int,
) -> ScopeRow:
    """The scope of a token, inserted with an empty balance unless it exists."""
    if found := fetch_by_fingerprint(connection, fingerprint):
        return found
    row = {
        "key_id": key_id,
        "fingerprint": fingerprint,
        "limit_picousd": limit_picousd,
        "created_at_ms": created_at_ms,
    }
    scope_id = connection.execute(insert(scope).returning(scope.c.id), row).scalar_one()
    if limit_picousd is not None:
        of_scope = BalanceKey(SCOPE, scope_id, ALL_TIME)
        balances.insert_row(connection, of_scope, Balance(0, 0, limit_picousd))
    return ScopeRow(scope_id, key_id, limit_picousd)


def fetch_limit_picousd(connection: Connection, scope_id: int) -> int | None:
    """What a scope may spend in total; None when only its key and account limit it."""
    limit: int | None = _SELECT_LIMIT.run(connection, {"of_id": scope_id}).fetchone()[0]
    return limit


def fetch_all(connection: Connection) -> list[ScopeRow]:
    """Every scope, oldest first."""
    return [ScopeRow(*row) for row in connection.execute(_SELECT.order_by(scope.c.id))]
