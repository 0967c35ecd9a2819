"""Renews the leases of a gateway's holds, and voids the holds of dead gateways."""

from __future__ import annotations

import asyncio
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import structlog

from stillhouse.billing.holds import expired_holds, transactions
from stillhouse.billing.holds.transactions import LEASE_MS
from stillhouse.billing.idempotency_key import IdempotencyKey
from stillhouse.clock import Clock
from stillhouse.errors import RequestError, StillhouseError, StoreUnavailableError
from stillhouse.store.database import Database
from stillhouse.store.ledger.requests import HeldRequest

log = structlog.get_logger()

#: The interval between renewals of a lease; two in a row may fail.
INTERVAL_MS = LEASE_MS // 3

#: A longer pause than this between two renewals means that one was missed.
_LONGEST_PAUSE_MS = INTERVAL_MS * 3 // 2

#: The most holds that one transaction voids; other gateways wait for its end.
_SWEEP_AT_ONCE = 100


@dataclass(slots=True)
class _Lease:
    """One of this gateway's holds, and the callback for its loss."""

    held: HeldRequest
    idempotency_key: IdempotencyKey | None
    on_lost: Callable[[StillhouseError], None] | None = None


class Leases:
    """
    Renews the leases of this gateway's holds, and voids the holds whose leases have expired.

    A hold is not renewed if its gateway was killed, or never learned of it; any other gateway then
    voids it. No gateway can renew while the database is unreachable, so a gateway voids the holds
    of others only after it has itself renewed without a gap for a whole lease.

    A gateway that was paused, or cut off from the database, may find its holds voided. It
    reacquires them before it continues their requests, or ends the requests that their accounts no
    longer cover.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._leases: dict[int, _Lease] = {}
        self._since_ms: int | None = None
        self._last_ms = 0
        #: By the monotonic clock. Infinite if no other gateway uses the database.
        self._fresh_until_s = math.inf
        if database.is_shared:
            self._fresh_until_s = clock.monotonic_s() + LEASE_MS / 1000
        self._renewal: asyncio.Task[None] | None = None

    @property
    def is_shared(self) -> bool:
        """Returns whether other gateways may void the holds of this one."""
        return self._database.is_shared

    @property
    def are_fresh(self) -> bool:
        """Returns whether all leases are unexpired, so that no hold can have been voided; cheap."""
        return self._clock.monotonic_s() < self._fresh_until_s

    def begin(self, held: HeldRequest, idempotency_key: IdempotencyKey | None = None) -> None:
        """Starts renewing the lease of a request's hold."""
        self._leases[held.number] = _Lease(held, idempotency_key)

    def notify_if_lost(self, number: int, on_lost: Callable[[StillhouseError], None]) -> None:
        """
        Calls *on_lost* with the reason, once, if a hold is voided and cannot be reacquired.

        The request should end then; its usage is settled as far as its account covers it.
        """
        if lease := self._leases.get(number):
            lease.on_lost = on_lost

    def end(self, number: int) -> None:
        """Stops renewing the lease of a request that is resolved."""
        self._leases.pop(number, None)

    async def refresh(self) -> None:
        """
        Renews overdue leases now, and reacquires the holds that were voided meanwhile.

        Returns without an error if the ledger is down: requests continue, and are settled when it
        is back. Concurrent callers share one renewal.
        """
        if self._renewal is None:
            self._renewal = asyncio.create_task(self._refresh(), name="late renewal of leases")
        await asyncio.shield(self._renewal)

    async def keep(self) -> int:
        """
        Renews this gateway's leases and sweeps those of others; call this every `INTERVAL_MS`.

        Returns:
            The number of holds that were voided.

        Raises:
            StoreUnavailableError: The ledger cannot be written; the next time may do.

        """
        now_ms = self._clock.now_ms()
        await self.renew()
        pause_ms, self._last_ms = now_ms - self._last_ms, now_ms
        if self._since_ms is None or not 0 <= pause_ms <= _LONGEST_PAUSE_MS:
            self._since_ms = now_ms
        return await self._sweep(until_ms=now_ms) if now_ms - self._since_ms >= LEASE_MS else 0

    async def sweep(self) -> int:
        """
        Voids the holds that a killed server left; call this once, before the first hold.

        In a database with one server those are all holds; in a shared database, those whose leases
        have expired. The usage of those requests is unknown, and no client received a cost:
        they are not charged.

        Returns:
            The number of holds that were voided.

        Raises:
            StoreUnavailableError: The ledger cannot be written.

        """
        until_ms = self._clock.now_ms() if self._database.is_shared else sys.maxsize
        return await self._sweep(until_ms=until_ms)

    async def renew(self) -> None:
        """
        Renews this gateway's leases; reacquires the holds that a sweep has voided, or reports them.

        Raises:
            StoreUnavailableError: The ledger cannot be written; the next time may do.

        """
        begin_s = self._clock.monotonic_s()
        lost = await self._database.write(
            partial(
                transactions.renew,
                numbers=sorted(self._leases),
                lease_until_ms=self._clock.now_ms() + LEASE_MS,
            )
        )
        for number in lost:
            if lease := self._leases.get(number):
                await self._reacquire(lease)
        if self._database.is_shared:
            self._fresh_until_s = begin_s + LEASE_MS / 1000

    async def _sweep(self, *, until_ms: int) -> int:
        """Voids the holds whose lease ends no later than *until_ms*, and returns their number."""
        sweep = partial(
            transactions.sweep,
            now_ms=self._clock.now_ms(),
            lease_until_ms=until_ms,
            at_most=_SWEEP_AT_ONCE,
        )
        total = num_voided = await self._database.write(sweep)
        while num_voided == _SWEEP_AT_ONCE:
            num_voided = await self._database.write(sweep)
            total += num_voided
        return total

    async def _reacquire(self, lease: _Lease) -> None:
        now_ms, number = self._clock.now_ms(), lease.held.number
        reacquire = partial(
            expired_holds.reacquire,
            held=lease.held,
            idempotency_key=lease.idempotency_key,
            now_ms=now_ms,
            lease_until_ms=now_ms + LEASE_MS,
        )
        try:
            is_held_again = await self._database.write(reacquire)
        except RequestError as error:
            # The refusal is foreseen: its trace adds nothing.
            log.error("hold_lost", number=number, reason=error.message)  # noqa: TRY400  (as above)
            on_lost, lease.on_lost = lease.on_lost, None
            if on_lost is not None:
                on_lost(error)
        else:
            if is_held_again:
                log.warning("hold_reacquired", number=number)

    async def _refresh(self) -> None:
        try:
            await self.renew()
        except StoreUnavailableError as error:
            log.warning("leases_not_renewed", reason=error.message)
            self._postpone_refresh()
        except Exception:
            # Streams continue and are settled late; `/readyz` names the failing loop.
            log.exception("leases_not_renewed")
            self._postpone_refresh()
        finally:
            self._renewal = None

    def _postpone_refresh(self) -> None:
        """Treats the leases as fresh for a while; else each batch of every stream renews them."""
        self._fresh_until_s = self._clock.monotonic_s() + INTERVAL_MS / 1000
