"""Reads and writes idempotency keys: one request per account and key, then its answer."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, delete, select, text, update

from stillhouse.store.ledger.requests import HELD, SETTLED
from stillhouse.store.tables import idempotency_key, price_version, request
from stillhouse.types.usage import TokenUsage


@dataclass(frozen=True, slots=True)
class KeyedRequest:
    """
    The request of an idempotency key.

    Args:
        fingerprint: The request's fingerprint.
        answer: None while the request is running; empty when it was too large to be kept.
        usage: The ledger's count, as in all fields below; 0 while the request is running.

    """

    fingerprint: bytes
    answer: bytes | None
    request_id: str
    model: str
    service_tier: str
    created_at_ms: int
    usage: TokenUsage
    cost_picousd: int


_OF_ACCOUNT = (
    idempotency_key.c.account_id == bindparam("of_account"),
    idempotency_key.c.key == bindparam("of_key"),
)
_SELECT = (
    select(
        idempotency_key.c.fingerprint,
        idempotency_key.c.answer,
        request.c.request_id,
        price_version.c.model,
        price_version.c.service_tier,
        request.c.created_at_ms,
        request.c.prompt_tokens,
        request.c.cached_tokens,
        request.c.completion_tokens,
        request.c.cost_picousd,
    )
    .join_from(idempotency_key, request, idempotency_key.c.request_number == request.c.number)
    .join(price_version, request.c.price_version == price_version.c.version)
    .where(*_OF_ACCOUNT, idempotency_key.c.expires_at_ms > bindparam("now"))
)
# Both databases know ON CONFLICT, but SQLAlchemy has no insert for both that does.
_INSERT = text(
    "INSERT INTO idempotency_key (account_id, key, fingerprint, request_number, expires_at_ms) "
    "VALUES (:account_id, :key, :fingerprint, :request_number, :expires_at_ms) "
    "ON CONFLICT (account_id, key) DO NOTHING"
)
_DELETE_EXPIRED = delete(idempotency_key).where(
    idempotency_key.c.number.in_(
        select(idempotency_key.c.number)
        .where(idempotency_key.c.expires_at_ms <= bindparam("now"))
        .order_by(idempotency_key.c.expires_at_ms)
        .limit(bindparam("at_most"))
    )
)
_OF_REQUEST = idempotency_key.c.request_number == bindparam("of_request")


def fetch(connection: Connection, *, account_id: int, key: str, now_ms: int) -> KeyedRequest | None:
    """Returns the request that an account's key belongs to, unless the key has expired."""
    names = {"of_account": account_id, "of_key": key, "now": now_ms}
    row = connection.execute(_SELECT, names).one_or_none()
    if row is None:
        return None
    return KeyedRequest(
        fingerprint=row.fingerprint,
        answer=row.answer,
        request_id=row.request_id,
        model=row.model,
        service_tier=row.service_tier,
        created_at_ms=row.created_at_ms,
        usage=TokenUsage(
            row.prompt_tokens or 0, row.cached_tokens or 0, row.completion_tokens or 0
        ),
        cost_picousd=row.cost_picousd or 0,
    )


def insert_key(  # noqa: PLR0913 - one argument per column
    connection: Connection,
    *,
    account_id: int,
    key: str,
    fingerprint: bytes,
    request_number: int,
    expires_at_ms: int,
    now_ms: int,
) -> bool:
    """Registers a key for a request; returns False if another request's key has not expired."""
    expired = delete(idempotency_key).where(*_OF_ACCOUNT, idempotency_key.c.expires_at_ms <= now_ms)
    connection.execute(expired, {"of_account": account_id, "of_key": key})
    row = {
        "account_id": account_id,
        "key": key,
        "fingerprint": fingerprint,
        "request_number": request_number,
        "expires_at_ms": expires_at_ms,
    }
    return connection.execute(_INSERT, row).rowcount == 1


def keep_answer(connection: Connection, request_number: int, answer: bytes) -> None:
    """Stores a request's answer, if it still has a key."""
    query = update(idempotency_key).where(_OF_REQUEST).values(answer=answer)
    connection.execute(query, {"of_request": request_number})


def delete_of_request(connection: Connection, request_number: int) -> None:
    """Deletes the key of a request, if it has one."""
    connection.execute(delete(idempotency_key).where(_OF_REQUEST), {"of_request": request_number})


def delete_expired(connection: Connection, *, now_ms: int, at_most: int) -> int:
    """Deletes the keys that expired first, and returns their number."""
    return connection.execute(_DELETE_EXPIRED, {"now": now_ms, "at_most": at_most}).rowcount


def fetch_wrong(connection: Connection) -> list[str]:
    """Returns the ids of requests with a charge and no answer, or an answer and no charge."""
    is_answered = idempotency_key.c.answer.is_not(None)
    query = (
        select(request.c.request_id)
        .join_from(idempotency_key, request, idempotency_key.c.request_number == request.c.number)
        .where(
            (is_answered & (request.c.state != SETTLED))
            | (~is_answered & (request.c.state != HELD))
        )
    )
    return list(connection.scalars(query))
