"""Audits the ledger and corrects its derived sums."""

from __future__ import annotations

from functools import partial

from stillhouse.billing.audit.rebuild import RebuildResult, rebuild
from stillhouse.billing.audit.verify import Audit, audit_ledger
from stillhouse.clock import Clock
from stillhouse.store.database import Database


class Auditor:
    """Recomputes everything that the ledger derives from its requests and entries."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def audit(self) -> Audit:
        """
        Recomputes everything that is derived; returns the differences and what was covered.

        Raises:
            StoreUnavailableError: The ledger cannot be read.

        """
        return await self._database.read(partial(audit_ledger, now_ms=self._clock.now_ms()))

    async def rebuild(self) -> RebuildResult:
        """
        Sums every balance and day again from requests and entries, and corrects the differences.

        Requests are served meanwhile: the reads block no writes, and the writes are short.

        Raises:
            ConflictError: A corrected balance would be above its limit.
            StoreUnavailableError: The ledger cannot be used; finished corrections stay.

        """
        return await rebuild(self._database)
