"""What an account may ask of a model over all gateways of a database: part of the hold."""

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

#: Nobody can know when a request in flight will end.
_RETRY_AFTER_S = 1.0

#: Completions are taken however much was used up: they are generated.
_ANY_NS = 1 << 61


@dataclass(frozen=True, slots=True)
class SharedLimits:
    """
    The bounds of `RateLimitsConfig`, kept in the database.

    Each gateway keeps them in its memory as well, and so refuses most of what is too much for
    nothing. Here they are kept by the transaction that reserves the money, one after the other over
    all gateways: so no limit is passed, not by a request. In flight is what is held, which a killed
    gateway's requests are until their lease has ended.

    Args:
        max_outstanding: An account's requests in flight at a model.
        max_outstanding_per_key: Those of one key; None leaves them to the account's limit.
        requests_per_minute: None is without limit.
        tokens_per_minute: Prompts are taken at once, completions when they have ended; the minute
            may be overdrawn, and lets nothing in until that is made up for. None is without limit.

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
        """A transaction that counts a request as `admit` does, and then does *work*."""

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
        Count a request that is about to be held.

        Raises:
            RateLimitError: Its account or key has too many in flight, or has used up its minute.

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
        """Count what a request that was admitted has generated."""
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
