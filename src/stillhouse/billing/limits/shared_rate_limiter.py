"""Enforces rate limits over all gateways of a database, in the transaction of each hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from stillhouse.errors import RateLimitError
from stillhouse.store.database import Connection
from stillhouse.store.ledger import rates
from stillhouse.store.ledger.rates import MINUTE_NS

T = TypeVar("T")

_REQUESTS = "requests"
_TOKENS = "tokens"

#: It is unknown when a request in flight will end.
_RETRY_AFTER_S = 1.0

#: Completion tokens are always counted, as they are generated already.
_ANY_NS = 1 << 61


@dataclass(frozen=True, slots=True)
class SharedRateLimiter:
    """
    Enforces the rate limits of ``[limits]`` over all gateways of a database.

    Each gateway also enforces them in its memory (`serving/admission/rate_limits.py`), and so
    refuses most excess requests without a query. Here the transaction that reserves the money
    counts the request; those transactions are serialised over all gateways, so no limit is exceeded
    by a single request. A request is in flight while it is held; the requests of a killed gateway
    are held until their leases expire.

    Args:
        max_outstanding: An account's requests in flight at a model.
        max_outstanding_per_key: A key's requests in flight at a model; None for no such limit.
        requests_per_minute: None for no limit.
        tokens_per_minute: Prompt tokens count at admission, completion tokens at settlement. They
            may overdraw the minute; no request is admitted until the deficit is refilled. None for
            no limit.

    """

    max_outstanding: int
    max_outstanding_per_key: int | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None

    def before(
        self,
        work: Callable[[Connection], T],
        *,
        account_id: int,
        key_id: int,
        price_version: int,
        prompt_tokens: int,
    ) -> Callable[[Connection], T]:
        """Returns a transaction that counts a request as `admit` does, and then runs *work*."""

        def admit(connection: Connection) -> T:
            self.admit(
                connection,
                account_id=account_id,
                key_id=key_id,
                price_version=price_version,
                prompt_tokens=prompt_tokens,
            )
            return work(connection)

        return admit

    def admit(
        self,
        connection: Connection,
        *,
        account_id: int,
        key_id: int,
        price_version: int,
        prompt_tokens: int,
    ) -> None:
        """
        Counts a request that is about to be held.

        Raises:
            RateLimitError: Its account or key has too many requests in flight, or has used up its
                minute.

        """
        of_account, of_key = rates.count_in_flight(
            connection, account_id=account_id, key_id=key_id, price_version=price_version
        )
        _refuse_too_many(of_account, self.max_outstanding)
        _refuse_too_many(of_key, self.max_outstanding_per_key)
        for kind, per_minute, amount in (
            (_REQUESTS, self.requests_per_minute, 1),
            (_TOKENS, self.tokens_per_minute, prompt_tokens),
        ):
            if per_minute is None:
                continue
            wait_s = rates.take(
                connection,
                account_id=account_id,
                price_version=price_version,
                kind=kind,
                cost_ns=amount * MINUTE_NS // per_minute,
                ahead_ns=MINUTE_NS - MINUTE_NS // per_minute,
            )
            if wait_s:
                raise RateLimitError(
                    f"Rate limited: {per_minute} {kind} per minute to this model",
                    retry_after_s=wait_s,
                )

    def settle(
        self,
        connection: Connection,
        *,
        account_id: int,
        price_version: int,
        completion_tokens: int,
    ) -> None:
        """Counts the completion tokens of a request that was admitted."""
        if self.tokens_per_minute is not None and completion_tokens:
            rates.take(
                connection,
                account_id=account_id,
                price_version=price_version,
                kind=_TOKENS,
                cost_ns=completion_tokens * MINUTE_NS // self.tokens_per_minute,
                ahead_ns=_ANY_NS,
            )


def _refuse_too_many(num_in_flight: int, limit: int | None) -> None:
    if limit is not None and num_in_flight >= limit:
        raise RateLimitError(
            f"Rate limited: {num_in_flight} requests to this model are in flight",
            retry_after_s=_RETRY_AFTER_S,
        )
