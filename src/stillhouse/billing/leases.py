"""Which holds somebody still works on: every gateway says so for its own, again and again."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import structlog

from stillhouse.billing import expired_holds, transactions
from stillhouse.billing.idempotency_key import IdempotencyKey
from stillhouse.billing.transactions import LEASE_MS
from stillhouse.clock import Clock
from stillhouse.errors import RequestError, StillhouseError, StoreUnavailableError
from stillhouse.store.database import Database
from stillhouse.store.ledger.requests import HeldRequest

log = structlog.get_logger()

#: How often leases are renewed: twice may fail before the third time is too late.
INTERVAL_MS = LEASE_MS // 3

#: A pause between two renewals that is longer than this means that one is missing.
_LONGEST_PAUSE_MS = INTERVAL_MS * 3 // 2

#: So many holds are voided in one transaction, as other gateways wait for its end.
_SWEEP_AT_ONCE = 100


@dataclass(slots=True)
class _Lease:
    """One of this gateway's holds, and who is told when it is lost for good."""

    held: HeldRequest
    idempotency_key: IdempotencyKey | None
    on_lost: Callable[[StillhouseError], None] | None = None


class Leases:
    """
    The leases of this gateway's holds, and what becomes of those that others let run out.

    A hold whose gateway was killed, or was never told that it has it, is renewed by nobody: any
    other gateway then gives the money back. While the database was away nobody could renew, so a
    gateway takes from others only what they had a whole lease's time to renew since.

    A gateway that was only away (paused, or cut off from the database) finds its holds given back.
    It takes them back before it goes on with their requests, or ends those whose accounts do not
    cover them any more.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._leases: dict[int, _Lease] = {}
        self._since_ms: int | None = None
        self._last_ms = 0
        #: By the monotonic clock; nobody else voids what is held in a database of one's own.
        self._fresh_until_s = math.inf
        if database.is_shared:
            self._fresh_until_s = clock.monotonic_s() + LEASE_MS / 1000
        self._renewal: asyncio.Task[None] | None = None

    @property
    def are_fresh(self) -> bool:
        """Whether nobody can have voided a hold of this gateway: renewed within a lease's time."""
        return self._clock.monotonic_s() < self._fresh_until_s

    def begin(self, held: HeldRequest, idempotency_key: IdempotencyKey | None = None) -> None:
        """From now on answer for the hold of a request."""
        self._leases[held.number] = _Lease(held, idempotency_key)

    def notify_if_lost(self, number: int, on_lost: Callable[[StillhouseError], None]) -> None:
        """Call *on_lost*, once, if a hold is given back and cannot be taken back."""
        if lease := self._leases.get(number):
            lease.on_lost = on_lost

    def end(self, number: int) -> None:
        """Its request is resolved."""
        self._leases.pop(number, None)

    async def refresh(self) -> None:
        """
        Renew now what should have been renewed before, taking back what was lost meanwhile.

        While the ledger is down it returns all the same: what is served then is settled when it is
        back. Callers at the same time share one renewal.
        """
        if self._renewal is None:
            self._renewal = asyncio.create_task(self._refresh(), name="late renewal of leases")
        await asyncio.shield(self._renewal)

    async def keep(self) -> int:
        """
        Renew this gateway's leases, and void what others left; to be called every `INTERVAL_MS`.

        Returns:
            How many holds were voided.

        Raises:
            StoreUnavailableError: The ledger cannot be written; the next time may do.

        """
        now_ms = self._clock.now_ms()
        await self.renew()
        pause_ms, self._last_ms = now_ms - self._last_ms, now_ms
        if self._since_ms is None or not 0 <= pause_ms <= _LONGEST_PAUSE_MS:
            self._since_ms = now_ms
        return await self.sweep(until_ms=now_ms) if now_ms - self._since_ms >= LEASE_MS else 0

    async def renew(self) -> None:
        """
        Renew this gateway's leases; what a sweep has voided is taken back, or its owner told.

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

    async def sweep(self, *, until_ms: int) -> int:
        """Void the holds whose lease has ended at a moment, and return how many there were."""
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
            log.error("hold_lost", number=number, reason=error.message)  # noqa: TRY400  (an alarm)
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
            self._ask_again_later()
        except Exception:
            # Streams go on, and are settled late; `/readyz` names the loop that fails by it.
            log.exception("leases_not_renewed")
            self._ask_again_later()
        finally:
            self._renewal = None

    def _ask_again_later(self) -> None:
        """Or each batch of every stream would ask."""
        self._fresh_until_s = self._clock.monotonic_s() + INTERVAL_MS / 1000
