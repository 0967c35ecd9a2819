"""Hold the highest possible cost, then settle what was used: exactly once, whatever happens."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from stillhouse.billing import spending_limits as limits
from stillhouse.billing import transactions
from stillhouse.billing.archive.archive import Archived, archive
from stillhouse.billing.audit.rebuild import Rebuilt, rebuild
from stillhouse.billing.audit.verify import Audit, Difference, audit_ledger
from stillhouse.billing.idempotency import Answer
from stillhouse.billing.idempotency_key import IdempotencyKey
from stillhouse.billing.leases import Leases
from stillhouse.billing.outcome import Outcome, UsageSource
from stillhouse.billing.price import Price
from stillhouse.billing.shared_rate_limits import SharedLimits
from stillhouse.billing.spending_limits import LimitPeriod
from stillhouse.billing.statement import Month
from stillhouse.billing.usage import Span, UsageGrouping, UsageLine, day_of, fetch_usage
from stillhouse.clock import Clock
from stillhouse.errors import StillhouseError, StoreUnavailableError
from stillhouse.store.accounts.keys import KeyLimit
from stillhouse.store.accounts.scopes import TokenScope
from stillhouse.store.database import Connection, Database
from stillhouse.store.ledger.requests import SETTLED, VOIDED, HeldRequest, Resolution
from stillhouse.types.service_tier import ServiceTier
from stillhouse.types.tariff import Tariff
from stillhouse.types.usage import TokenUsage

logger = logging.getLogger(__name__)

#: A short outage delays a settlement by little; a long one is retried once a second.
_FIRST_RETRY_DELAY_S, _MAX_RETRY_DELAY_S = 0.05, 1.0

#: How long the hold of a cancelled caller is retried before the next sweep has to find it.
_VOID_CANCELLED_TIMEOUT_S = 60


@dataclass(frozen=True, slots=True)
class Hold:
    """
    The highest possible cost of one request, reserved on its account.

    Settle or void it exactly once; repeating either changes nothing.

    Args:
        price: What the request will be charged by, whatever is published meanwhile.
        idempotency_key: The client's own name for the request.

    """

    request_id: str
    price: Price
    held: HeldRequest
    idempotency_key: IdempotencyKey | None = None

    @property
    def ceiling_picousd(self) -> int:
        """What is reserved, and the most that will be charged."""
        return self.held.hold_picousd


class Ledger:
    """
    Every request's money: reserved before the engine starts, charged once when it has ended.

    What a method returns is durable: no crash of the process or the machine takes it back.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._leases = Leases(database, clock)
        self._background: set[asyncio.Task[None]] = set()
        self._shared_limits: SharedLimits | None = None

    def share_limits(self, limits: SharedLimits) -> None:
        """Keep every account within *limits* over all gateways, where the database is shared."""
        if self._database.is_shared:
            self._shared_limits = limits

    async def publish_prices(
        self, tariffs: Mapping[str, Tariff], *, tier: ServiceTier = ServiceTier.DEFAULT
    ) -> dict[str, Price]:
        """
        Make *tariffs*, by model id, the prices of requests on *tier* from now on.

        Args:
            tariffs: Those of the default tier; the tier's own factor is applied to them.

        Returns:
            The version of each model's price; a model whose tariff is what it was keeps its own.

        """
        return await self._database.write(
            partial(
                transactions.publish,
                tariffs={model: tariff.on(tier) for model, tariff in tariffs.items()},
                tier=tier,
                now_ms=self._clock.now_ms(),
            )
        )

    async def publish_tiers(
        self, tariffs: Mapping[str, Tariff]
    ) -> dict[str, dict[ServiceTier, Price]]:
        """Make *tariffs*, by model id, the prices of every tier, each with its own factor."""

        def publish(connection: Connection) -> dict[str, dict[ServiceTier, Price]]:
            by_tier = {
                tier: transactions.publish(
                    connection,
                    tariffs={model: tariff.on(tier) for model, tariff in tariffs.items()},
                    tier=tier,
                    now_ms=self._clock.now_ms(),
                )
                for tier in ServiceTier
            }
            return {
                model: {tier: by_tier[tier][model] for tier in ServiceTier} for model in tariffs
            }

        return await self._database.write(publish)

    async def sweep(self) -> int:
        """
        Void the holds that a killed server left; called once, before this server's first hold.

        In a database of its own those are all that there are; in a shared one, those whose lease
        has ended. Nobody knows what those requests generated, and no client was told a cost: they
        are not charged, and their tokens stay unknown.

        Returns:
            How many there were.

        """
        until_ms = self._clock.now_ms() if self._database.is_shared else sys.maxsize
        return await self._leases.sweep(until_ms=until_ms)

    async def keep_leases(self) -> int:
        """
        Say which holds this server works on, and void what others left; `INTERVAL_MS` says when.

        Raises:
            StoreUnavailableError: The ledger cannot be written; the next time may do.

        """
        return await self._leases.keep()

    async def renew_leases(self) -> None:
        """
        Only say which holds this server works on, and take back those that another has voided.

        Raises:
            StoreUnavailableError: The ledger cannot be written; the next time may do.

        """
        await self._leases.renew()

    @property
    def is_shared(self) -> bool:
        """Whether other servers may void what this one holds."""
        return self._database.is_shared

    @property
    def has_fresh_leases(self) -> bool:
        """Whether no other server can have voided what this one holds; cheap to ask."""
        return self._leases.are_fresh

    async def refresh_leases(self) -> None:
        """
        Take back, before their requests go on, holds that were voided while this server was away.

        While the ledger is down it returns all the same.
        """
        await self._leases.refresh()

    def notify_if_lost(self, hold: Hold, on_lost: Callable[[StillhouseError], None]) -> None:
        """
        Call *on_lost* with the reason, once, if a hold is lost to another server for good.

        The request should end then; what was made for it is settled as far as it is covered.
        """
        self._leases.notify_if_lost(hold.held.number, on_lost)

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
        Reserve the highest possible cost before the engine starts.

        Two parallel requests so never spend the same money. When the caller is cancelled while it
        waits, the reservation is given back.

        Args:
            request_id: Unique for ever; made by this server, never by a client.
            prompt_tokens: The exact length of the prompt.
            max_tokens: The most that will be generated, over all choices.
            scope: Of a scoped token, whose own limit counts beside its key's and account's.
            idempotency_key: The client's own name for the request, under which it runs only once.

        Raises:
            InsufficientFundsError: A limit, less what is spent and held under it, is below that.
            ConflictError: The request id exists.
            IdempotencyConflictError: Another request of the account has this name.
            IdempotencyMismatchError: And it asked for something else.
            RateLimitError: On all gateways together, the account or its key has too much in flight
                at the model, or has used up its minute.
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
        if self._shared_limits is not None:
            admit = self._shared_limits.before(
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
        self._leases.begin(hold.held, idempotency_key)
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
        Charge what was used and give back the rest of the hold.

        What was generated must be charged, so while the ledger cannot be written this tries again
        until it can; a caller that must not wait for that cancels it.

        Args:
            answer: What the client is told, where it named its request: kept for repetitions. None
                frees the name, so that a repetition runs anew.

        Returns:
            The cost in pico-dollars, which may be shown from now on. When the hold has been
            resolved before: what it was resolved at.

        Raises:
            ValueError: *usage* cannot be, such as a negative count; the hold stays.
            StoreUnavailableError: The ledger was closed first; the hold stays.

        """
        due_picousd = hold.price.cost_picousd(usage)
        if due_picousd > hold.ceiling_picousd:
            logger.error(
                "request %s used %s, which costs %d pico-USD, but %d were held: charged the hold. "
                "This is a bug in the engine's counts or in the hold.",
                hold.request_id,
                usage,
                due_picousd,
                hold.ceiling_picousd,
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
        Give the whole hold back: for requests that failed through us, which charge nothing.

        Args:
            usage: What was generated all the same, for the record; None when nobody knows.

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

    async def set_key_limit(
        self, key_id: int, limit_picousd: int | None, *, period: LimitPeriod = LimitPeriod.TOTAL
    ) -> None:
        """
        Limit what a key spends; None leaves it to its account's limit.

        What the key has spent in the period counts. A request is admitted only while its highest
        possible cost is covered, so the limit is never passed, not by a pico-dollar.

        Raises:
            InsufficientFundsError: It has spent and holds more than that; revoke it to stop it.
            StoreUnavailableError: The ledger cannot be written.

        """
        limit = None if limit_picousd is None else KeyLimit(limit_picousd, period)
        await self._database.write(
            partial(limits.set_key_limit, key_id=key_id, limit=limit, now_ms=self._clock.now_ms())
        )

    async def top_up(self, account_id: int, amount_picousd: int, *, note: str = "") -> None:
        """
        Let a prepaid account spend what its customer paid in.

        Raises:
            InvalidRequestError: The account is not prepaid, or the amount is not positive.
            StoreUnavailableError: The ledger cannot be written.

        """
        await self._database.write(
            partial(
                limits.top_up,
                account_id=account_id,
                amount_picousd=amount_picousd,
                note=note,
                now_ms=self._clock.now_ms(),
            )
        )

    async def usage(
        self,
        *,
        by: UsageGrouping,
        from_ms: int = 0,
        to_ms: int | None = None,
        account_id: int | None = None,
    ) -> list[UsageLine]:
        """
        Sum what was charged for requests that were admitted in a span of days (UTC).

        Args:
            from_ms: In the first day.
            to_ms: In the first day that is no longer within; None sums up to now. Adjoining spans
                so count every request once, whatever their times of day.

        """
        span = Span(from_day=day_of(from_ms), to_day=None if to_ms is None else day_of(to_ms))
        return await self._database.read(
            partial(fetch_usage, by=by, span=span, account_id=account_id)
        )

    async def audit(self) -> Audit:
        """Recompute everything that is derived, and say what that has covered."""
        return await self._database.read(partial(audit_ledger, now_ms=self._clock.now_ms()))

    async def verify(self) -> list[Difference]:
        """Recompute everything that is derived; empty when the ledger is exactly right."""
        return (await self.audit()).differences

    async def rebuild(self) -> Rebuilt:
        """
        Sum every balance and day again from requests and entries, and correct what differs.

        Requests go on meanwhile: what is read holds up nobody, and what is written is short.

        Raises:
            ConflictError: A balance that is right would be above its limit.
            StoreUnavailableError: The ledger cannot be used; what was corrected stays so.

        """
        return await rebuild(self._database)

    async def archive(self, *, before: Month, path: Path) -> Archived:
        """
        Move the resolved requests that were admitted before a month into a file.

        No sum changes: statements, balances and limits are as before, and `audit` goes on from what
        was carried forward. What a single one of those requests cost is in the file alone.

        Raises:
            InvalidRequestError: The month before it is not over.
            ConfigError: The file exists, or cannot be written.
            ConflictError: Somebody else is at it.
            StoreUnavailableError: The ledger cannot be used; what was moved stays so.

        """
        return await archive(self._database, self._clock, before=before, path=path)

    async def close(self) -> None:
        """Wait for reservations that are being given back; call before the database closes."""
        await asyncio.gather(*self._background)

    async def _resolve(
        self, hold: Hold, resolution: Resolution, answer: Answer | None = None
    ) -> int:
        """Resolve a hold, trying again while that fails; a repetition is harmless."""
        resolve = partial(
            transactions.resolve,
            held=hold.held,
            resolution=resolution,
            idempotency_key=hold.idempotency_key,
            answer=answer,
            shared_limits=self._shared_limits,
        )
        cost_picousd = await self._write_until_done(resolve, hold.held)
        self._leases.end(hold.held.number)
        return cost_picousd

    async def _write_until_done(
        self, resolve: Callable[[Connection], int], held: HeldRequest
    ) -> int:
        """Retry a write until it succeeds, the caller is cancelled or the database is closed."""
        delay_s = _FIRST_RETRY_DELAY_S
        while True:
            try:
                return await self._database.write(resolve)
            except StoreUnavailableError as error:
                if self._database.is_closed:
                    raise
                logger.warning(
                    "request number %d cannot be resolved now, trying again in %.2f s: %s",
                    held.number,
                    delay_s,
                    error,
                )
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, _MAX_RETRY_DELAY_S)

    async def _void_admission(
        self, admission: asyncio.Future[HeldRequest], to_hold: Callable[[HeldRequest], Hold]
    ) -> None:
        """Give back what was reserved for a caller that left before it was told."""
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
            logger.info("a cancelled request's hold was not voided: %s", error)

    def _keep(self, task: asyncio.Task[None]) -> None:
        """Hold on to a task until it is done, as the event loop itself would let it go."""
        self._background.add(task)
        task.add_done_callback(self._background.discard)
