"""Runs the ledger's transactions: each function is one, atomic."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from stillhouse.billing.holds import expired_holds
from stillhouse.billing.idempotency import Answer, register_key
from stillhouse.billing.idempotency_key import IdempotencyKey
from stillhouse.billing.limits import spending_limits as limits
from stillhouse.billing.limits.shared_rate_limiter import SharedRateLimiter
from stillhouse.billing.outcome import Outcome
from stillhouse.store.accounts.scopes import TokenScope
from stillhouse.store.database import Connection
from stillhouse.store.ledger import balances, entries, idempotency, requests, usage_days
from stillhouse.store.ledger.balances import BalanceKey
from stillhouse.store.ledger.requests import HeldRequest, Resolution

log = structlog.get_logger()

#: The length of a lease; a hold that was not renewed for so long belongs to a dead gateway.
LEASE_MS = 30_000


def admit(  # noqa: PLR0913 - what a request row needs
    connection: Connection,
    *,
    request_id: str,
    account_id: int,
    key_id: int,
    price_version: int,
    hold_picousd: int,
    now_ms: int,
    scope: TokenScope | None = None,
    idempotency_key: IdempotencyKey | None = None,
) -> HeldRequest:
    """Reserves *hold_picousd* on account, limited key and scope; inserts the request."""
    of_account = BalanceKey(balances.ACCOUNT, account_id, balances.ALL_TIME)
    if not balances.reserve(connection, of_account, hold_picousd):
        raise limits.not_covered("What is left on this account", hold_picousd)
    limits.reserve_on_key(connection, key_id, hold_picousd, now_ms=now_ms)
    scope_id = None
    if scope is not None:
        scope_id = limits.reserve_on_scope(
            connection, scope, key_id=key_id, amount_picousd=hold_picousd, now_ms=now_ms
        )
    held = requests.insert_held(
        connection,
        request_id=request_id,
        account_id=account_id,
        key_id=key_id,
        price_version=price_version,
        hold_picousd=hold_picousd,
        created_at_ms=now_ms,
        lease_until_ms=now_ms + LEASE_MS,
        scope_id=scope_id,
    )
    if idempotency_key is not None:
        register_key(
            connection,
            idempotency_key,
            account_id=account_id,
            request_number=held.number,
            now_ms=now_ms,
        )
    return held


def resolve(  # noqa: PLR0913 - how a request ended, and what depends on it
    connection: Connection,
    *,
    held: HeldRequest,
    resolution: Resolution,
    idempotency_key: IdempotencyKey | None = None,
    answer: Answer | None = None,
    shared_rate_limiter: SharedRateLimiter | None = None,
) -> int:
    """
    Settles or voids a request unless its gateway has done so; returns its cost.

    Args:
        idempotency_key: The client's own name for the request.
        answer: Kept for repetitions of a settled request; without one, it may run again.
        shared_rate_limiter: Counts the generated tokens.

    """
    if requests.resolve(connection, held.number, resolution):
        balances.release(connection, held, cost_picousd=resolution.cost_picousd)
    elif not expired_holds.resolve(
        connection, held=held, resolution=resolution, idempotency_key=idempotency_key
    ):
        return _resolved_cost_picousd(connection, held, resolution)
    usage_days.add(connection, held, resolution)
    entries.insert_charge(
        connection,
        request_number=held.number,
        account_id=held.account_id,
        cost_picousd=resolution.cost_picousd,
    )
    if shared_rate_limiter is not None and resolution.usage is not None:
        shared_rate_limiter.settle(
            connection,
            account_id=held.account_id,
            price_version=held.price_version,
            completion_tokens=resolution.usage.completion_tokens,
        )
    if resolution.state == requests.SETTLED and answer is not None:
        idempotency.keep_answer(connection, held.number, answer.encode())
    elif resolution.state == requests.VOIDED or idempotency_key is not None:
        idempotency.delete_of_request(connection, held.number)
    return resolution.cost_picousd


def _resolved_cost_picousd(
    connection: Connection, held: HeldRequest, resolution: Resolution
) -> int:
    """Returns the cost of a resolved request; once archived, returns 0 and logs an alarm."""
    cost_picousd = requests.fetch_cost_picousd(connection, held.number)
    if cost_picousd is None:
        log.error(
            "archived_request_not_charged",
            number=held.number,
            cost_picousd=resolution.cost_picousd,
            usage=str(resolution.usage),
            meaning="the request was voided and archived before its gateway reported its usage",
        )
        return 0
    return cost_picousd


def renew(connection: Connection, *, numbers: Sequence[int], lease_until_ms: int) -> list[int]:
    """Renews the leases of requests, and returns which of them a sweep has voided."""
    return requests.renew(connection, numbers, lease_until_ms=lease_until_ms)


def sweep(connection: Connection, *, now_ms: int, lease_until_ms: int, at_most: int) -> int:
    """Voids holds whose lease ends no later than *lease_until_ms*, and returns their number."""
    lost = Resolution(
        state=requests.VOIDED,
        outcome=Outcome.GATEWAY_LOST,
        cost_picousd=0,
        usage=None,
        usage_source=None,
        resolved_at_ms=now_ms,
    )
    abandoned = requests.fetch_held(connection, lease_until_ms=lease_until_ms, at_most=at_most)
    for held in abandoned:
        resolve(connection, held=held, resolution=lost)
    return len(abandoned)
