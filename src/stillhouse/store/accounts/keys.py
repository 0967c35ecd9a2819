"""Reads and writes the rows of API keys, which contain the HMACs of their secrets."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, func, insert, or_, select, update

from stillhouse.store.backends.prepared import Prepared
from stillhouse.store.tables import api_key

TOTAL = "total"
MONTH = "month"

#: The most values in one statement; SQLite's own limit is 32,766, and PostgreSQL's 65,535.
_MAX_VALUES = 1_000


@dataclass(frozen=True, slots=True)
class KeyLimit:
    """A key's spending limit: in all (`TOTAL`), or in each calendar month (`MONTH`, in UTC)."""

    amount_picousd: int
    period: str


@dataclass(frozen=True, slots=True)
class KeyRow:
    """
    An API key without its secret.

    Args:
        prefix: The part of the secret that may be shown.
        allowed_models: None when every model is.

    """

    id: int
    account_id: int
    name: str
    prefix: str
    created_at_ms: int
    last_used_at_ms: int | None
    expires_at_ms: int | None
    revoked_at_ms: int | None
    allowed_models: frozenset[str] | None
    limit: KeyLimit | None

    @property
    def is_restricted(self) -> bool:
        """Returns whether the key may do less than its account."""
        return (self.expires_at_ms, self.allowed_models, self.limit) != (None, None, None)


@dataclass(frozen=True, slots=True)
class StoredKey:
    """
    A key with its encrypted secret.

    Args:
        sealed_secret: Encrypted; None until a key that an older stillhouse made is next used.

    """

    key: KeyRow
    secret_hmac: bytes
    sealed_secret: bytes | None


_SELECT = select(
    api_key.c.id,
    api_key.c.account_id,
    api_key.c.name,
    api_key.c.prefix,
    api_key.c.created_at_ms,
    api_key.c.last_used_at_ms,
    api_key.c.expires_at_ms,
    api_key.c.revoked_at_ms,
    api_key.c.allowed_models,
    api_key.c.limit_picousd,
    api_key.c.limit_period,
)
_SELECT_STORED = _SELECT.add_columns(api_key.c.secret_hmac, api_key.c.sealed_secret)
_SELECT_BY_HMAC = _SELECT_STORED.where(api_key.c.secret_hmac == bindparam("of_hmac"))
_SELECT_ALL = _SELECT.order_by(api_key.c.id)
_SELECT_OF_ACCOUNT = _SELECT_ALL.where(api_key.c.account_id == bindparam("of_account"))
_SELECT_BY_NAME = _SELECT_STORED.where(
    api_key.c.account_id == bindparam("of_account"),
    api_key.c.name == bindparam("of_name"),
    api_key.c.revoked_at_ms.is_(None),
)
_SELECT_REVOKED = select(api_key.c.id).where(
    api_key.c.id.in_(bindparam("some", expanding=True)), api_key.c.revoked_at_ms.is_not(None)
)
_SELECT_ONE = _SELECT.where(
    api_key.c.account_id == bindparam("of_account"), api_key.c.id == bindparam("of_id")
)
_SELECT_LIVE = _SELECT_OF_ACCOUNT.where(api_key.c.revoked_at_ms.is_(None))
_COUNT_LIVE = (
    select(func.count())
    .select_from(api_key)
    .where(
        api_key.c.account_id == bindparam("of_account"),
        api_key.c.revoked_at_ms.is_(None),
        or_(api_key.c.expires_at_ms.is_(None), api_key.c.expires_at_ms > bindparam("now_ms")),
    )
)
_SELECT_TIMES_SINCE = (
    select(api_key.c.created_at_ms)
    .where(
        api_key.c.created_at_ms > bindparam("since_ms"),
        api_key.c.account_id == bindparam("of_account"),
    )
    .order_by(api_key.c.created_at_ms)
)
_SELECT_LIVE_AFTER = (
    select(api_key.c.id, api_key.c.account_id, api_key.c.name, api_key.c.secret_hmac)
    .where(api_key.c.id > bindparam("of_id"), api_key.c.revoked_at_ms.is_(None))
    .order_by(api_key.c.id)
)
_SELECT_LIMIT = Prepared(
    select(api_key.c.limit_picousd, api_key.c.limit_period).where(
        api_key.c.id == bindparam("of_id"), api_key.c.limit_picousd.is_not(None)
    )
)
_SET = update(api_key).where(api_key.c.id == bindparam("of_id"))
_REVOKE = update(api_key).where(
    api_key.c.id == bindparam("of_id"), api_key.c.revoked_at_ms.is_(None)
)


def insert_key(  # noqa: PLR0913 - one argument per column
    connection: Connection,
    *,
    account_id: int,
    name: str,
    prefix: str,
    secret_hmac: bytes,
    created_at_ms: int,
    expires_at_ms: int | None = None,
    allowed_models: frozenset[str] | None = None,
    sealed_secret: bytes | None = None,
) -> KeyRow:
    """
    Inserts a key.

    Raises:
        IntegrityError: A live key of the account has this name.

    """
    row = {
        "account_id": account_id,
        "name": name,
        "prefix": prefix,
        "secret_hmac": secret_hmac,
        "sealed_secret": sealed_secret,
        "created_at_ms": created_at_ms,
        "expires_at_ms": expires_at_ms,
        "allowed_models": None if allowed_models is None else json.dumps(sorted(allowed_models)),
    }
    key_id = connection.execute(insert(api_key).returning(api_key.c.id), row).scalar_one()
    return KeyRow(
        id=key_id,
        account_id=account_id,
        name=name,
        prefix=prefix,
        created_at_ms=created_at_ms,
        last_used_at_ms=None,
        expires_at_ms=expires_at_ms,
        revoked_at_ms=None,
        allowed_models=allowed_models,
        limit=None,
    )


def fetch_by_hmac(connection: Connection, secret_hmac: bytes) -> StoredKey | None:
    """Returns the key whose secret has this HMAC, revoked or not."""
    row = connection.execute(_SELECT_BY_HMAC, {"of_hmac": secret_hmac}).mappings().one_or_none()
    return _stored(row) if row else None


def fetch_by_name(connection: Connection, account_id: int, name: str) -> StoredKey | None:
    """Returns the account's live key of this name; there is at most one."""
    parameters = {"of_account": account_id, "of_name": name}
    row = connection.execute(_SELECT_BY_NAME, parameters).mappings().one_or_none()
    return _stored(row) if row else None


def fetch_key(connection: Connection, account_id: int, key_id: int) -> KeyRow | None:
    """Returns one of an account's keys, revoked or not."""
    parameters = {"of_account": account_id, "of_id": key_id}
    row = connection.execute(_SELECT_ONE, parameters).mappings().one_or_none()
    return _key(row) if row else None


def fetch_live_keys(connection: Connection, account_id: int) -> list[KeyRow]:
    """Returns an account's keys that are not revoked, oldest first."""
    rows = connection.execute(_SELECT_LIVE, {"of_account": account_id})
    return [_key(row) for row in rows.mappings()]


def count_live_keys(connection: Connection, account_id: int, *, now_ms: int) -> int:
    """Returns the number of an account's working keys."""
    parameters = {"of_account": account_id, "now_ms": now_ms}
    return connection.execute(_COUNT_LIVE, parameters).scalar_one()


def fetch_creation_times(connection: Connection, account_id: int, *, since_ms: int) -> list[int]:
    """Returns when an account's keys were made, after *since_ms*, revoked or not, in order."""
    parameters = {"of_account": account_id, "since_ms": since_ms}
    return [*connection.scalars(_SELECT_TIMES_SINCE, parameters)]


def fetch_keys(connection: Connection, account_id: int | None = None) -> list[KeyRow]:
    """Returns every key of one account or of all, revoked ones included, oldest first."""
    query = _SELECT_ALL if account_id is None else _SELECT_OF_ACCOUNT
    rows = connection.execute(query, {"of_account": account_id})
    return [_key(row) for row in rows.mappings()]


def fetch_live_after(connection: Connection, key_id: int) -> list[tuple[int, int, str, bytes]]:
    """Returns id, account, name and HMAC of every live key that was made after a key."""
    rows = connection.execute(_SELECT_LIVE_AFTER, {"of_id": key_id})
    return [(id_, account_id, name, code) for id_, account_id, name, code in rows]


def fetch_revoked(connection: Connection, key_ids: Sequence[int]) -> list[int]:
    """Returns which of the given keys are revoked."""
    return [
        revoked
        for start in range(0, len(key_ids), _MAX_VALUES)
        for revoked in connection.scalars(
            _SELECT_REVOKED, {"some": key_ids[start : start + _MAX_VALUES]}
        )
    ]


def fetch_limit(connection: Connection, key_id: int) -> KeyLimit | None:
    """Returns a key's spending limit; None if only its account limits it."""
    row = _SELECT_LIMIT.run(connection, {"of_id": key_id}).fetchone()
    return KeyLimit(*row) if row else None


def set_limit(connection: Connection, key_id: int, limit: KeyLimit | None) -> None:
    """Stores a key's spending limit."""
    row = {
        "of_id": key_id,
        "limit_picousd": limit.amount_picousd if limit else None,
        "limit_period": limit.period if limit else None,
    }
    connection.execute(_SET, row)


def note_use(connection: Connection, key_id: int, *, used_at_ms: int) -> None:
    """Stores the time of a key's last use."""
    connection.execute(_SET, {"of_id": key_id, "last_used_at_ms": used_at_ms})


def keep_sealed(connection: Connection, key_id: int, *, sealed_secret: bytes) -> None:
    """Stores the encrypted secret of a key that has none."""
    connection.execute(_SET, {"of_id": key_id, "sealed_secret": sealed_secret})


def revoke(connection: Connection, key_id: int, *, revoked_at_ms: int) -> None:
    """Revokes a key; a revoked key keeps its time of revocation."""
    connection.execute(_REVOKE, {"of_id": key_id, "revoked_at_ms": revoked_at_ms})


def _stored(row: Mapping[Any, Any]) -> StoredKey:
    columns = dict(row)
    secret_hmac, sealed_secret = columns.pop("secret_hmac"), columns.pop("sealed_secret")
    return StoredKey(_key(columns), secret_hmac, sealed_secret)


def _key(row: Mapping[Any, Any]) -> KeyRow:
    columns = dict(row)
    models = columns.pop("allowed_models")
    amount_picousd, period = columns.pop("limit_picousd"), columns.pop("limit_period")
    return KeyRow(
        **columns,
        allowed_models=None if models is None else frozenset(json.loads(models)),
        limit=None if amount_picousd is None else KeyLimit(amount_picousd, period),
    )
