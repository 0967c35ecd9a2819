"""Reacquires or resolves expired holds, which a sweep voided while their gateway was cut off."""

from __future__ import annotations

from dataclasses import replace

import structlog

from stillhouse.billing.idempotency import register_key
from stillhouse.billing.idempotency_key import IdempotencyKey
from stillhouse.billing.limits import spending_limits as limits
from stillhouse.billing.outcome import Outcome
from stillhouse.errors import IdempotencyConflictError, IdempotencyMismatchError
from stillhouse.store.database import Connection
from stillhouse.store.ledger import balances, requests, usage_days
from stillhouse.store.ledger.requests import HeldRequest, Resolution

log = structlog.get_logger()


def reacquire(
    connection: Connection,
    *,
    held: HeldRequest,
    idempotency_key: IdempotencyKey | None,
    now_ms: int,
    lease_until_ms: int,
) -> bool:
    """
    Reacquires a hold that a sweep has voided; one transaction.

    Returns:
        Whether the hold was expired, and is held again; False if it has been resolved.

    Raises:
        InsufficientFundsError: A balance no longer covers the hold.
        IdempotencyConflictError: Another request has registered its idempotency key since.
        IdempotencyMismatchError: In addition, that request is a different one.

    """
    if not requests.is_expired(connection, held.number):
        return False
    if not balances.cover(connection, held, held.hold_picousd):
        whose = (
            "This server was away for so long that the request's hold was given back; what is left"
        )
        raise limits.not_covered(whose, held.hold_picousd)
    if idempotency_key is not None:
        register_key(
            connection,
            idempotency_key,
            account_id=held.account_id,
            request_number=held.number,
            now_ms=now_ms,
        )
    balances.hold_again(connection, held)
    usage_days.forget_voided(connection, held)
    return requests.reacquire(connection, held.number, lease_until_ms=lease_until_ms)


def resolve(
    connection: Connection,
    *,
    held: HeldRequest,
    resolution: Resolution,
    idempotency_key: IdempotencyKey | None,
) -> bool:
    """
    Resolves a request whose hold has expired, once; the caller writes its day, entry and response.

    A cost that the balances no longer cover is not charged, so no limit is exceeded. Nor is a
    second generation under one idempotency key. The tokens are recorded, and the request stays
    voided.

    Args:
        idempotency_key: The request's.

    Returns:
        Whether this settled the request.

    """
    if resolution.usage is None or not requests.is_expired(connection, held.number):
        return False
    if resolution.state == requests.SETTLED:
        if _can_be_charged(connection, held, resolution, idempotency_key):
            balances.charge_late(connection, held, cost_picousd=resolution.cost_picousd)
            usage_days.forget_voided(connection, held)
            return requests.resolve_expired(connection, held.number, resolution)
        log.error(
            "lost_hold_not_charged",
            number=held.number,
            cost_picousd=resolution.cost_picousd,
            usage=str(resolution.usage),
            meaning="the request was served while its gateway had lost its hold",
        )
        resolution = replace(
            resolution, state=requests.VOIDED, outcome=Outcome.GATEWAY_LOST, cost_picousd=0
        )
    requests.resolve_expired(connection, held.number, resolution)
    return False


def _can_be_charged(
    connection: Connection,
    held: HeldRequest,
    resolution: Resolution,
    idempotency_key: IdempotencyKey | None,
) -> bool:
    if not balances.cover(connection, held, resolution.cost_picousd):
        return False
    if idempotency_key is None:
        return True
    try:
        register_key(
            connection,
            idempotency_key,
            account_id=held.account_id,
            request_number=held.number,
            now_ms=resolution.resolved_at_ms,
        )
    except (IdempotencyConflictError, IdempotencyMismatchError):
        return False
    return True
