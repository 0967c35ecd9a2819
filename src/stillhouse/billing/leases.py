"""Which holds somebody still works on: every gateway says so for its own, again and again."""

from __future__ import annotations

from functools import partial

from stillhouse.billing import transactions
from stillhouse.billing.transactions import LEASE_MS
from stillhouse.clock import Clock
from stillhouse.store.database import Database

#: How often leases are renewed: twice may fail before the third time is too late.
INTERVAL_MS = LEASE_MS // 3

#: A pause between two renewals that is longer than this means that one is missing.
_LONGEST_PAUSE_MS = INTERVAL_MS * 3 // 2

#: So many holds are voided in one transaction, as other gateways wait for its end.
_SWEEP_AT_ONCE = 100


class Leases:
    """
    The leases of this gateway's holds, and what becomes of those that others let run out.

    A hold whose gateway was killed, or was never told that it has it, is renewed by nobody: any
    other gateway then gives the money back. While the database was away nobody could renew, so a
    gateway takes from others only what they had a whole lease's time to renew since.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._numbers: set[int] = set()
        self._since_ms: int | None = None
        self._last_ms = 0

    def begin(self, number: int) -> None:
        """From now on answer for the hold of a request."""
        self._numbers.add(number)

    def end(self, number: int) -> None:
        """Its request is resolved."""
        self._numbers.discard(number)

    async def keep(self) -> int:
        """
        Renew this gateway's leases, and void what others left; to be called every `INTERVAL_MS`.

        Returns:
            How many holds were voided.

        Raises:
            StoreUnavailableError: The ledger cannot be written; the next time may do.

        """
        numbers, now_ms = sorted(self._numbers), self._clock.now_ms()
        await self._database.write(
            partial(transactions.renew, numbers=numbers, lease_until_ms=now_ms + LEASE_MS)
        )
        pause_ms, self._last_ms = now_ms - self._last_ms, now_ms
        if self._since_ms is None or not 0 <= pause_ms <= _LONGEST_PAUSE_MS:
            self._since_ms = now_ms
        return await self.sweep(until_ms=now_ms) if now_ms - self._since_ms >= LEASE_MS else 0

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
