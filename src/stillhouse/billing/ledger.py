"""The ledger: holds the highest possible cost of a request, then settles what was used."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

import structlog

from stillhouse.billing.audit.auditor import Auditor
from stillhouse.billing.holds import transactions
from stillhouse.billing.holds.hold import Hold
from stillhouse.billing.holds.leases import Leases
from stillhouse.billing.idempotency import Answer
from stillhouse.billing.idempotency_key import IdempotencyKey
from stillhouse.billing.limits.shared_rate_limiter import SharedRateLimiter
from stillhouse.billing.limits.spending_limits import SpendingLimits
from stillhouse.billing.outcome import Outcome, UsageSource
from stillhouse.billing.price import Price
from stillhouse.billing.price_list import PriceList
from stillhouse.clock import Clock
from stillhouse.errors import StillhouseError, StoreUnavailableError
from stillhouse.store.accounts.scopes import TokenScope
from stillhouse.store.database import Connection, Database
from stillhouse.store.ledger.requests import SETTLED, VOIDED, HeldRequest, Resolution
from stillhouse.types.usage import TokenUsage

__all__ = ["Hold", "Ledger"]

log = structlog.get_logger()

#: Retries back off from 50 ms to one second.
_FIRST_RETRY_DELAY_S, _MAX_RETRY_DELAY_S = 0.05, 1.0

#: Time for voiding the hold of a cancelled caller; after that the next sweep voids it.
_VOID_CANCELLED_TIMEOUT_S = 60


class Ledger:
    """
    Holds each request's highest cost before the engine starts, and charges it once at its end.

    When a method returns, its change is durable: no crash takes it back.

    Args:
        shared_rate_limiter: Counts requests over all gateways; unused where one gateway alone uses
            the database.

    Attributes:
        leases: Renews this gateway's holds, and voids those of gateways that are gone.
        prices: Publishes price versions.
        limits: Sets key limits and tops accounts up.
        auditor: Verifies and corrects what the ledger derives.

    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        shared_rate_limiter: SharedRateLimiter | None = None,
    ) -> None:
        self._database = database
        self._clock = clock
        self._shared_rate_limiter = shared_rate_limiter if database.is_shared else None
        self.leases = Leases(database, clock)
        self.prices = PriceList(database, clock)
        self.limits = SpendingLimits(database, clock)
        self.auditor = Auditor(database, clock)
        self._background: set[asyncio.Task[None]] = set()

    async def hold(  # noqa: PLR0913 - what a request row needs
        self,
        *,
        request_id: str,
        account_id: int,
        key_id: int,
        price: Price,
        prompt_tokens: int,
        max_tokens: int,
        scope: TokenScope | None = None,
        idempotency_key: IdempotencyKey | None = None,
    ) -> Hold:
        """
        Reserves the highest possible cost before the engine starts.

        Holds are serialised, so two requests cannot reserve the same balance. A caller that is
        cancelled while it waits leaves no hold: the reservation is voided.

        Args:
            request_id: Unique for ever; made by this server, never by a client.
            prompt_tokens: The exact length of the prompt.
            max_tokens: The most that will be generated, over all choices.
            scope: The scoped token's; its limit applies besides those of its key and account.
            idempotency_key: The client's own name for the request, under which it runs only once.

        Raises:
            InsufficientFundsError: The cost is above what is left of a limit, after what is spent
                and held under it.
            ConflictError: The request id exists.
            IdempotencyConflictError: Another request of the account has this idempotency key.
            IdempotencyMismatchError: It has, and that request has another body.
            RateLimitError: Over all gateways, the account or its key has too many requests in
                flight at the model, or has used up its rate per minute.
            StoreUnavailableError: The ledger cannot be written; nothing is reserved.

        Source:
            Two-phase transfers, TigerBeetle: pending, then post or void.

        """
        admit: Callable[[Connection], HeldRequest] = partial(
            transactions.admit,
            request_id=request_id,
            account_id=account_id,
            key_id=key_id,
            price_version=price.version,
            hold_picousd=price.ceiling_picousd(prompt_tokens=prompt_tokens, max_tokens=max_tokens),
            now_ms=self._clock.now_ms(),
            scope=scope,
            idempotency_key=idempotency_key,
        )
        if self._shared_rate_limiter is not None:
            admit = self._shared_rate_limiter.before(
                admit,
                account_id=account_id,
                key_id=key_id,
                price_version=price.version,
                prompt_tokens=prompt_tokens,
            )
        admission = self._database.submit(admit)
        to_hold = partial(Hold, request_id, price, idempotency_key=idempotency_key)
        try:
            hold = to_hold(await asyncio.shield(admission))
        except asyncio.CancelledError:
            self._keep(asyncio.create_task(self._void_admission(admission, to_hold)))
            raise
        self.leases.begin(hold.held, idempotency_key)
        return hold

    async def settle(
        self,
        hold: Hold,
        *,
        usage: TokenUsage,
        outcome: Outcome,
        usage_source: UsageSource = UsageSource.ENGINE,
        answer: Answer | None = None,
    ) -> int:
        """
        Charges what was used and releases the rest of the hold.

        While the ledger cannot be written, this retries until it can; cancel the call to stop
        waiting.

        Args:
            answer: What the client is sent, kept for repetitions under its idempotency key. None
                frees the key, so that a repetition runs again.

        Returns:
            The cost in pico-dollars, which may be shown from now on. If the hold was resolved
            before, the cost of that time.

        Raises:
            ValueError: *usage* is impossible, such as a negative count; the hold stays.
            StoreUnavailableError: The ledger was closed first; the hold stays.

        """
        due_picousd = hold.price.cost_picousd(usage)
        if due_picousd > hold.ceiling_picousd:
            log.error(
                "usage_above_hold",
                request_id=hold.request_id,
                usage=str(usage),
                due_picousd=due_picousd,
                charged_picousd=hold.ceiling_picousd,
                meaning="a bug in the engine's counts or in the hold",
            )
        resolution = Resolution(
            state=SETTLED,
            outcome=outcome,
            cost_picousd=min(due_picousd, hold.ceiling_picousd),
            usage=usage,
            usage_source=usage_source,
            resolved_at_ms=self._clock.now_ms(),
        )
        return await self._resolve(hold, resolution, answer)

    async def void(
        self,
        hold: Hold,
        *,
        outcome: Outcome,
        usage: TokenUsage | None = None,
        usage_source: UsageSource = UsageSource.ENGINE,
    ) -> None:
        """
        Releases the whole hold, for requests that failed through our fault and are not charged.

        Args:
            usage: What was generated all the same, for the record; None if it is unknown.

        Raises:
            StoreUnavailableError: The ledger was closed first; the hold stays.

        """
        resolution = Resolution(
            state=VOIDED,
            outcome=outcome,
            cost_picousd=0,
            usage=usage,
            usage_source=usage_source if usage is not None else None,
            resolved_at_ms=self._clock.now_ms(),
        )
        await self._resolve(hold, resolution)

    async def close(self) -> None:
        """Waits for the holds that are being voided; call before the database closes."""
        await asyncio.gather(*self._background)

    async def _resolve(
        self, hold: Hold, resolution: Resolution, answer: Answer | None = None
    ) -> int:
        """Resolves a hold, retrying while that fails; a repetition is harmless."""
        resolve = partial(
            transactions.resolve,
            held=hold.held,
            resolution=resolution,
            idempotency_key=hold.idempotency_key,
            answer=answer,
            shared_rate_limiter=self._shared_rate_limiter,
        )
        cost_picousd = await self._write_until_done(resolve, hold.held)
        self.leases.end(hold.held.number)
        return cost_picousd

    async def _write_until_done(
        self, resolve: Callable[[Connection], int], held: HeldRequest
    ) -> int:
        """Retries a write until it succeeds, the caller is cancelled or the database is closed."""
        delay_s = _FIRST_RETRY_DELAY_S
        while True:
            try:
                return await self._database.write(resolve)
            except StoreUnavailableError as error:
                if self._database.is_closed:
                    raise
                log.warning(
                    "settlement_delayed",
                    number=held.number,
                    retry_in_s=delay_s,
                    reason=str(error),
                )
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, _MAX_RETRY_DELAY_S)

    async def _void_admission(
        self, admission: asyncio.Future[HeldRequest], to_hold: Callable[[HeldRequest], Hold]
    ) -> None:
        """Voids the hold of a caller that was cancelled before it received the hold."""
        try:
            async with asyncio.timeout(_VOID_CANCELLED_TIMEOUT_S):
                await self.void(
                    to_hold(await admission),
                    outcome=Outcome.CLIENT_DISCONNECT,
                    usage=TokenUsage(),
                    usage_source=UsageSource.GATEWAY_COUNT,
                )
        except (StillhouseError, TimeoutError) as error:
            # Refused, so nothing is reserved; or the ledger is down, and the next sweep finds it.
            log.info("cancelled_hold_not_voided", reason=str(error))

    def _keep(self, task: asyncio.Task[None]) -> None:
        """Keeps a reference to a task until it is done, as the event loop itself has none."""
        self._background.add(task)
        task.add_done_callback(self._background.discard)
