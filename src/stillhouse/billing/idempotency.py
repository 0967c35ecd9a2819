"""Runs a repeated request once: one generation, one charge, the same answer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import msgspec

from stillhouse.billing.idempotency_key import IdempotencyKey
from stillhouse.clock import Clock
from stillhouse.errors import (
    IdempotencyConflictError,
    IdempotencyMismatchError,
    InvalidRequestError,
)
from stillhouse.store.database import Connection, Database
from stillhouse.store.ledger import idempotency as rows
from stillhouse.types.events import ChoiceAnswer
from stillhouse.types.service_tier import ServiceTier
from stillhouse.types.usage import TokenUsage

#: The lifetime of a key; Stripe keeps one for at least as long.
LIFETIME_MS = 24 * 3600 * 1000

#: The largest stored response, above today's contexts; a larger one is charged, but not stored.
MAX_ANSWER_BYTES = 4 << 20

#: The smallest stored size of one log probability.
_LEAST_LOGPROB_BYTES = 40

#: The most rows that one transaction deletes; other writes wait for its end.
PURGE_BATCH = 500


@dataclass(frozen=True, slots=True)
class Answer:
    """The response that a client received, except for what the request's row contains."""

    choices: tuple[ChoiceAnswer, ...]
    reasoning_tokens: int

    def encode(self) -> bytes:
        """Returns the stored form; empty if the response is too large."""
        if _num_logprobs(self.choices) > MAX_ANSWER_BYTES // _LEAST_LOGPROB_BYTES:
            return b""  # encoding it first would block the ledger for a second
        data = msgspec.json.encode(self)
        return data if len(data) <= MAX_ANSWER_BYTES else b""


def _num_logprobs(choices: tuple[ChoiceAnswer, ...]) -> int:
    return sum(1 + len(token.top) for choice in choices for token in choice.logprobs)


@dataclass(frozen=True, slots=True)
class PastRequest:
    """A request that was answered before, with its response."""

    request_id: str
    model: str
    tier: ServiceTier
    created_at_ms: int
    usage: TokenUsage
    cost_picousd: int
    answer: Answer


class PastRequests:
    """Finds the requests of the last day by their idempotency keys."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def find(self, account_id: int, idempotency_key: IdempotencyKey) -> PastRequest | None:
        """
        Returns an account's earlier request under this key; None if there is none.

        Raises:
            IdempotencyConflictError: The first one is still running.
            IdempotencyMismatchError: The key belongs to a different request.
            InvalidRequestError: The response was too large to be kept.
            StoreUnavailableError: The ledger cannot be read.

        """
        fetch = partial(
            rows.fetch,
            account_id=account_id,
            key=idempotency_key.value,
            now_ms=self._clock.now_ms(),
        )
        found = await self._database.read(fetch)
        if found is None:
            return None
        if found.fingerprint != idempotency_key.fingerprint:
            raise _mismatch(idempotency_key)
        if found.answer is None:
            raise _conflict()
        if not found.answer:
            raise InvalidRequestError(
                f"This Idempotency-Key belongs to request {found.request_id}, which was charged. "
                "Its answer was too large to be kept; ask again under another key.",
                param="Idempotency-Key",
            )
        return PastRequest(
            request_id=found.request_id,
            model=found.model,
            tier=ServiceTier(found.service_tier),
            created_at_ms=found.created_at_ms,
            usage=found.usage,
            cost_picousd=found.cost_picousd,
            answer=msgspec.json.decode(found.answer, type=Answer),
        )

    async def purge(self) -> int:
        """Deletes expired keys, in short transactions, and returns their number."""
        num_purged = 0
        while True:
            now_ms = self._clock.now_ms()
            batch = partial(rows.delete_expired, now_ms=now_ms, at_most=PURGE_BATCH)
            num_deleted = await self._database.write(batch)
            num_purged += num_deleted
            if num_deleted < PURGE_BATCH:
                return num_purged


def register_key(
    connection: Connection,
    idempotency_key: IdempotencyKey,
    *,
    account_id: int,
    request_number: int,
    now_ms: int,
) -> None:
    """
    Registers a request's idempotency key, in the transaction that holds its cost.

    Raises:
        IdempotencyConflictError: Another request has registered the key before.
        IdempotencyMismatchError: In addition, that request is a different one.

    """
    is_first = rows.insert_key(
        connection,
        account_id=account_id,
        key=idempotency_key.value,
        fingerprint=idempotency_key.fingerprint,
        request_number=request_number,
        expires_at_ms=now_ms + LIFETIME_MS,
        now_ms=now_ms,
    )
    if not is_first:
        first = rows.fetch(
            connection, account_id=account_id, key=idempotency_key.value, now_ms=now_ms
        )
        is_same = first is None or first.fingerprint == idempotency_key.fingerprint
        raise _conflict() if is_same else _mismatch(idempotency_key)


def _conflict() -> IdempotencyConflictError:
    return IdempotencyConflictError(
        "The first request with this Idempotency-Key is still running; its answer will be there "
        "when it has ended"
    )


def _mismatch(idempotency_key: IdempotencyKey) -> IdempotencyMismatchError:
    return IdempotencyMismatchError(
        f"The Idempotency-Key {idempotency_key.value!r} belongs to a request with another body, "
        "path or scope; use a new key for a new request",
        param="Idempotency-Key",
    )
