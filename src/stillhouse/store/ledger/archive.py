"""Archives resolved requests: deletes their rows, and adds them to archived sums."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, Table, delete, func, insert, select, text, update

from stillhouse.store.backends.library_error import ConflictError
from stillhouse.store.backends.prepared import Prepared
from stillhouse.store.ledger.balances import ACCOUNT, SCOPE
from stillhouse.store.ledger.entries import CHARGE
from stillhouse.store.ledger.requests import HELD, SETTLED
from stillhouse.store.ledger.usage_days import DayKey, DaySums, day_of
from stillhouse.store.tables import (
    archive,
    archived_day,
    carried,
    entry,
    idempotency_key,
    request,
    scope,
)


@dataclass(frozen=True, slots=True)
class ArchivedRequest:
    """
    A request with its columns and entries.

    Args:
        row: Its columns by name.
        entries: The accounts and amounts of its posting, in the order of the accounts.

    """

    row: dict[str, Any]
    entries: list[list[int]]

    @property
    def number(self) -> int:
        """Returns the row's number."""
        return int(self.row["number"])


def _adding(table: Table) -> Prepared:
    """Returns a statement that adds to a row of sums, or inserts a missing row."""
    names = [column.name for column in table.columns]
    key = [column.name for column in table.primary_key]
    more = ", ".join(
        f"{name} = {table.name}.{name} + excluded.{name}" for name in names if name not in key
    )
    return Prepared(
        text(
            f"INSERT INTO {table.name} ({', '.join(names)}) "  # noqa: S608 - of constants
            f"VALUES ({', '.join(f':{name}' for name in names)}) "
            f"ON CONFLICT ({', '.join(key)}) DO UPDATE SET {more}"
        )
    )


_ADD_DAY = _adding(archived_day)
_CARRY = _adding(carried)


class Page(NamedTuple):
    """
    Requests in the order of their numbers.

    Args:
        last_number: Of the page; None when there are no further requests.
        requests: Those of the page that may be moved.

    """

    last_number: int | None
    requests: list[ArchivedRequest]


def fetch_page(
    connection: Connection, *, after: int, before_ms: int, resolved_before_ms: int, at_most: int
) -> Page:
    """
    Returns the next requests that were admitted before a moment and resolved before another.

    Numbers follow time: behind a page of later requests there are no earlier ones to look for. The
    newest request of all stays where it is, as SQLite gives the number after the highest one;
    so does one whose client may still ask for its answer.
    """
    query = select(request).where(request.c.number > after).order_by(request.c.number)
    rows = [dict(row) for row in connection.execute(query.limit(at_most)).mappings()]
    if not rows or all(row["created_at_ms"] >= before_ms for row in rows):
        return Page(None, [])
    numbers = [row["number"] for row in rows]
    newest = connection.execute(select(func.max(request.c.number))).scalar_one()
    named = select(idempotency_key.c.request_number).where(
        idempotency_key.c.request_number.in_(numbers)
    )
    stays = {newest, *connection.scalars(named)}
    movable = [
        row
        for row in rows
        if row["created_at_ms"] < before_ms
        and row["state"] != HELD
        and row["resolved_at_ms"] < resolved_before_ms
        and row["number"] not in stays
    ]
    return Page(numbers[-1], _with_entries(connection, movable))


def begin(connection: Connection, *, before_ms: int, file: str, now_ms: int, free_ms: int) -> int:
    """
    Begins an archive and returns its number.

    Args:
        free_ms: An unfinished archive that was begun after this belongs to a running process.

    Raises:
        ConflictError: There is one.

    """
    query = select(archive.c.file).where(
        archive.c.finished_at_ms.is_(None), archive.c.created_at_ms > free_ms
    )
    if (busy := connection.scalars(query).first()) is not None:
        raise ConflictError(f"Requests are being moved into {busy} already; try again in an hour.")
    row = {
        "before_ms": before_ms,
        "file": file,
        "num_requests": 0,
        "is_moving": False,
        "created_at_ms": now_ms,
    }
    number: int = connection.execute(insert(archive).returning(archive.c.number), row).scalar_one()
    return number


def finish(connection: Connection, number: int, *, sha256: str | None, now_ms: int) -> None:
    """Marks an archive as finished: its file is whole, and its requests are moved."""
    connection.execute(
        update(archive)
        .where(archive.c.number == number)
        .values(sha256=sha256, finished_at_ms=now_ms)
    )


def move(connection: Connection, number: int, moved: Sequence[ArchivedRequest]) -> int:
    """
    Deletes requests that an archive's file contains, and adds them to its sums.

    Returns:
        The number of deleted requests; those that were deleted before are not counted again.

    Raises:
        ConflictError: A request differs between the ledger and the file; nothing is moved.

    """
    here = _fetch(connection, [one.number for one in moved])
    there = [one for one in moved if one.number in here]
    for one in there:
        if one != here[one.number]:
            raise ConflictError(f"Request {one.number} is not what its archive says: it is kept.")
    if not there:
        return 0
    is_this = archive.c.number == number
    connection.execute(update(archive).where(is_this).values(is_moving=True))
    _add_days(connection, there)
    _carry(connection, number, there)
    numbers = [one.number for one in there]
    connection.execute(delete(entry).where(entry.c.kind == CHARGE, entry.c.reference.in_(numbers)))
    connection.execute(delete(request).where(request.c.number.in_(numbers)))
    count = archive.c.num_requests + len(there)
    connection.execute(update(archive).where(is_this).values(is_moving=False, num_requests=count))
    return len(there)


def fetch_days(connection: Connection) -> dict[DayKey, DaySums]:
    """Returns the sums of each day's archived requests."""
    columns = [archived_day.c[name] for name in (*DayKey._fields, *DaySums._fields)]
    return {DayKey(*row[:3]): DaySums(*row[3:]) for row in connection.execute(select(*columns))}


def fetch_spent(connection: Connection, holder: str) -> dict[int, int]:
    """Returns the cost of archived requests by account or scope; the house's side is negative."""
    query = (
        select(carried.c.holder_id, func.sum(carried.c.amount_picousd))
        .where(carried.c.holder == holder)
        .group_by(carried.c.holder_id)
    )
    return {holder_id: -int(total) for holder_id, total in connection.execute(query)}


def fetch_unbalanced(connection: Connection) -> list[tuple[int, int]]:
    """Returns the archives whose accounts' amounts do not sum to zero, with those sums."""
    total = func.sum(carried.c.amount_picousd)
    query = (
        select(carried.c.archive, total)
        .where(carried.c.holder == ACCOUNT)
        .group_by(carried.c.archive)
        .having(total != 0)
    )
    return [(number, int(found)) for number, found in connection.execute(query)]


def _with_entries(connection: Connection, rows: Sequence[dict[str, Any]]) -> list[ArchivedRequest]:
    query = (
        select(entry.c.reference, entry.c.account_id, entry.c.amount_picousd)
        .where(entry.c.kind == CHARGE, entry.c.reference.in_([row["number"] for row in rows]))
        .order_by(entry.c.reference, entry.c.account_id)
    )
    entries: dict[int, list[list[int]]] = {}
    for reference, *moved in connection.execute(query):
        entries.setdefault(reference, []).append(moved)
    return [ArchivedRequest(row, entries.get(row["number"], [])) for row in rows]


def _fetch(connection: Connection, numbers: Sequence[int]) -> dict[int, ArchivedRequest]:
    query = select(request).where(request.c.number.in_(numbers))
    rows = [dict(row) for row in connection.execute(query).mappings()]
    return {one.number: one for one in _with_entries(connection, rows)}


def _add_days(connection: Connection, moved: Iterable[ArchivedRequest]) -> None:
    days: dict[DayKey, DaySums] = {}
    for one in moved:
        row = one.row
        key = DayKey(day_of(row["created_at_ms"]), row["key_id"], row["price_version"])
        before = days.get(key, DaySums(0, 0, 0, 0, 0, 0))
        days[key] = DaySums(*(a + b for a, b in zip(before, _sums_of(row), strict=True)))
    for key, sums in days.items():
        _ADD_DAY.run(connection, {**key._asdict(), **sums._asdict()})


def _sums_of(row: Mapping[str, Any]) -> DaySums:
    if row["state"] != SETTLED:
        return DaySums(0, 1, 0, 0, 0, 0)
    amounts = (row[name] for name in DaySums._fields[2:])  # tokens and cost
    return DaySums._make((1, 0, *amounts))


def _carry(connection: Connection, number: int, moved: Sequence[ArchivedRequest]) -> None:
    amounts: Counter[tuple[str, int]] = Counter()
    for one in moved:
        for account_id, amount in one.entries:
            amounts[ACCOUNT, account_id] += amount
        if one.row["scope_id"] is not None:
            amounts[SCOPE, one.row["scope_id"]] -= one.row["cost_picousd"]
    # Scopes without a limit, or long expired, are many, and their sums are never read.
    scope_ids = [holder_id for holder, holder_id in amounts if holder == SCOPE]
    limited = set(
        connection.scalars(
            select(scope.c.id).where(scope.c.id.in_(scope_ids), scope.c.limit_picousd.is_not(None))
        )
    )
    for (holder, holder_id), amount in amounts.items():
        if holder == ACCOUNT or holder_id in limited:
            key = {"archive": number, "holder": holder, "holder_id": holder_id}
            _CARRY.run(connection, {**key, "amount_picousd": amount})
