"""Moves the requests of old months into a file, without changing a single sum."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from stillhouse.billing.archive.archive_file import ArchiveWriter, read_archive, sha256_of
from stillhouse.billing.statements.month import Month
from stillhouse.clock import Clock
from stillhouse.errors import ConfigError, InvalidRequestError
from stillhouse.store.database import Database
from stillhouse.store.ledger import archive as rows
from stillhouse.store.ledger.archive import ArchivedRequest, Page

#: The folder of archives in the home folder.
FOLDER = "archives"

#: The number of requests per read; reads block no writes.
_PAGE_REQUESTS = 1_000

#: The number of requests that one transaction of some ten milliseconds deletes.
_SLICE_REQUESTS = 100

#: The pause between two such transactions, in which other writes run.
_PAUSE_S = 0.02

#: The time in which a gateway that was cut off may resolve a request that a sweep voided.
_SETTLED_AFTER_MS = 86_400_000

#: An unfinished archive that is older than this was left by a process that has died.
_LEFT_AFTER_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class ArchiveResult:
    """The number of archived requests, and their file; None if there was nothing to archive."""

    num_requests: int
    path: Path | None


def archive_path(home: Path, before: Month, now_ms: int) -> Path:
    """Returns a new file's name in the home folder."""
    return home / FOLDER / f"requests-before-{before}-{now_ms}.jsonl.gz"


async def archive_requests(
    database: Database, clock: Clock, *, before: Month, path: Path
) -> ArchiveResult:
    """
    Moves the resolved requests that were admitted before a month, with their entries, into a file.

    First the whole file is written and flushed to disk. Then it is read back; a transaction per
    slice compares the requests with the file, adds them to the archived sums and deletes them. If
    the process dies in between, each request is in the ledger or in those sums; a request that is
    in the file and was not deleted goes into the next file as well.

    Raises:
        InvalidRequestError: The month before it is not over.
        ConfigError: The file exists, or cannot be written.
        ConflictError: Another process is archiving.
        StoreUnavailableError: The ledger cannot be used; archived requests stay archived.

    """
    now_ms = clock.now_ms()
    if before.begin_ms > now_ms:
        raise InvalidRequestError(
            f"{before.later(-1)} is not over; --before can be at most {Month.of(now_ms)}",
            param="before",
        )
    fetch = partial(
        rows.fetch_page,
        before_ms=before.begin_ms,
        resolved_before_ms=now_ms - _SETTLED_AFTER_MS,
        at_most=_PAGE_REQUESTS,
    )
    first = await _next_page(database, fetch, after=0)
    if first is None:
        return ArchiveResult(0, None)
    begin = partial(
        rows.begin,
        before_ms=before.begin_ms,
        file=str(path),
        now_ms=now_ms,
        free_ms=now_ms - _LEFT_AFTER_MS,
    )
    number = await database.write(begin)
    sha256 = None
    try:
        sha256 = await _write_file(database, fetch, first, path)
        num_moved = await _move(database, number, path, sha256)
    finally:
        end = partial(rows.finish, number=number, sha256=sha256, now_ms=clock.now_ms())
        await database.write(end)
    return ArchiveResult(num_moved, path)


async def _next_page(database: Database, fetch: partial[Page], *, after: int) -> Page | None:
    """Returns the next page that is not empty; None if there is none."""
    last_number: int | None = after
    while last_number is not None:
        page = await database.read(partial(fetch, after=last_number))
        if page.requests:
            return page
        last_number = page.last_number
    return None


async def _write_file(database: Database, fetch: partial[Page], first: Page, path: Path) -> str:
    writer = await asyncio.to_thread(ArchiveWriter, path)
    try:
        page: Page | None = first
        while page is not None:
            await asyncio.to_thread(writer.append, page.requests)
            if page.last_number is None:
                break
            page = await _next_page(database, fetch, after=page.last_number)
        return await asyncio.to_thread(writer.finish)
    except BaseException:
        writer.give_up()
        raise


async def _move(database: Database, number: int, path: Path, sha256: str) -> int:
    """Deletes the requests that the file contains, as read back from disk."""
    if await asyncio.to_thread(sha256_of, path) != sha256:
        raise ConfigError(f"{path}: is not what was written. The disk may be failing; all is kept.")
    num_moved = 0
    slices = read_archive(path, at_once=_SLICE_REQUESTS)
    while moved := await asyncio.to_thread(_next_slice, slices):
        num_moved += await database.write(partial(rows.move, number=number, moved=moved))
        await asyncio.sleep(_PAUSE_S)
    return num_moved


def _next_slice(slices: Iterator[list[ArchivedRequest]]) -> Sequence[ArchivedRequest]:
    return next(slices, [])
