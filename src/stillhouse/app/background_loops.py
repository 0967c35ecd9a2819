"""Runs a server's background loops: leases, file checks, purges, archives, revocations."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog

from stillhouse.app.services import Services
from stillhouse.billing.archive.archive import archive_path, archive_requests
from stillhouse.billing.holds.leases import INTERVAL_MS
from stillhouse.billing.statements.month import Month
from stillhouse.errors import StoreUnavailableError
from stillhouse.serving.revocation import RevocationCheck
from stillhouse.store.database import ConflictError, Database
from stillhouse.telemetry.background import BackgroundLoops, Loop
from stillhouse.telemetry.metrics import Metrics

log = structlog.get_logger()

_PURGE_INTERVAL_S = 600
_WATCH_INTERVAL_S = 2
_REVOCATION_TIMEOUT_S = 10
_ARCHIVE_INTERVAL_S = 3600
#: Enough for some hundred million requests.
_ARCHIVE_TIMEOUT_S = 86_400


async def start_leases(services: Services, background: BackgroundLoops) -> None:
    """Voids the holds that a killed server left, and renews this server's leases."""

    async def keep() -> None:
        await services.clock.synchronise()
        await services.ledger.leases.keep()

    if not services.database.is_shared:  # other gateways may run requests of those holds
        await services.ledger.leases.sweep()
    background.start(Loop("leases", keep, interval_s=INTERVAL_MS / 1000))


def ledger_watch(database: Database, metrics: Metrics) -> Loop:
    """Returns the loop that checks the ledger's files also while nothing is written."""

    async def watch() -> None:
        try:
            await database.check()
        except StoreUnavailableError:  # logged where it was found, and by every other probe
            metrics.ledger_lost.set(1)
        else:
            metrics.ledger_lost.set(0)

    return Loop("ledger files", watch, interval_s=_WATCH_INTERVAL_S)


def archive_loop(services: Services, home: Path, *, num_months: int) -> Loop:
    """Returns the loop that moves the requests of older months into files."""

    async def move() -> None:
        now_ms = services.clock.now_ms()
        before = Month.of(now_ms).later(-num_months)
        path = archive_path(home, before, now_ms)
        try:
            archived = await archive_requests(
                services.database, services.clock, before=before, path=path
            )
        except ConflictError as error:  # another gateway is archiving
            log.info("archive_postponed", reason=error.message)
            return
        if archived.path is not None:
            log.info("requests_archived", number=archived.num_requests, file=str(archived.path))

    return Loop(
        "archive",
        move,
        interval_s=_ARCHIVE_INTERVAL_S,
        timeout_s=_ARCHIVE_TIMEOUT_S,
        is_vital=False,
    )


def purge_loop(name: str, purge: Callable[[], Awaitable[object]]) -> Loop:
    """Returns a loop that deletes expired rows; requests do not need it."""
    return Loop(name, purge, interval_s=_PURGE_INTERVAL_S, is_vital=False)


def revocation_loop(check: RevocationCheck, interval_s: float) -> Loop:
    """Returns the loop that stops requests whose key was revoked."""
    return Loop(
        "revocation",
        check.run,
        interval_s=interval_s,
        timeout_s=_REVOCATION_TIMEOUT_S,
        is_vital=False,
    )
