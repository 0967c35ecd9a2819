from __future__ import annotations

import asyncio
import gzip
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from stillhouse.billing.archive import archive as archive_module
from stillhouse.billing.archive.archive import ArchiveResult, archive_requests
from stillhouse.billing.archive.archive_file import read_archive
from stillhouse.billing.limits.spending_limits import LimitPeriod
from stillhouse.billing.outcome import Outcome
from stillhouse.billing.statements.month import Month
from stillhouse.billing.statements.statement import Statements
from stillhouse.errors import ConfigError, InvalidRequestError, StoreUnavailableError
from stillhouse.store.database import ConflictError
from stillhouse.store.ledger import archive as rows
from stillhouse.types.usage import TokenUsage
from tests.ledger_audit import audit_differences
from tests.unit.billing.conftest import Books
from tests.unit.billing.test_scopes import hold as hold_with
from tests.unit.billing.test_scopes import scope_of

USAGE = TokenUsage(prompt_tokens=149, cached_tokens=100, completion_tokens=338)
SEPTEMBER, OCTOBER, NOVEMBER = Month(2026, 9), Month(2026, 10), Month(2026, 11)

SUMS = (
    "SELECT * FROM balance ORDER BY holder, holder_id, period",
    "SELECT * FROM usage_day ORDER BY day, key_id, price_version",
)


def go_to(books: Books, month: Month, day: int) -> None:
    at_ms = int(datetime(month.year, month.month, day, tzinfo=UTC).timestamp()) * 1000
    books.clock.advance((at_ms - books.clock.now_ms()) / 1000)


async def use(books: Books, month: Month, *, num_requests: int = 3) -> None:
    """Leave settled and voided requests behind in a month."""
    for day in range(1, num_requests + 1):
        go_to(books, month, day)
        name = f"{month}-{day}-{books.account_id}"
        hold = await books.hold(request_id=name)
        await books.ledger.settle(hold, usage=USAGE, outcome=Outcome.STOP)
        voided = await books.hold(request_id=f"{name}-voided")
        await books.ledger.void(voided, outcome=Outcome.ENGINE_ERROR, usage=USAGE)


@pytest.fixture
async def used(books: Books, monkeypatch: pytest.MonkeyPatch) -> Books:
    """Two customers, one of them prepaid, with limits, who used three months; it is November."""
    monkeypatch.setattr(archive_module, "_PAUSE_S", 0)
    monkeypatch.setattr(archive_module, "_SLICE_REQUESTS", 5)
    monkeypatch.setattr(archive_module, "_PAGE_REQUESTS", 7)
    prepaid = await books.beside("prepaid", is_prepaid=True)
    await prepaid.ledger.limits.top_up(prepaid.account_id, 10**12)
    await prepaid.ledger.limits.set_key_limit(prepaid.key_id, 10**12)
    await books.ledger.limits.set_key_limit(books.key_id, 10**12, period=LimitPeriod.MONTH)
    for month in (SEPTEMBER, OCTOBER, NOVEMBER):
        await use(books, month)
        await use(prepaid, month)
    return books


async def archive(books: Books, path: Path, before: Month = NOVEMBER) -> ArchiveResult:
    return await archive_requests(books.database, books.clock, before=before, path=path)


async def everything_told(books: Books) -> list[Any]:
    """What the ledger says to those who pay."""
    statements = Statements(books.database)
    months = [await statements.of(month) for month in (SEPTEMBER, OCTOBER, NOVEMBER)]
    return [months, *[await books.rows(query) for query in SUMS]]


def read(path: Path) -> list[Any]:
    with gzip.open(path, "rt") as file:
        return [json.loads(line) for line in file]


async def test_archiving_changes_no_sum(used: Books, tmp_path: Path) -> None:
    """Old months' rows are in the file and nowhere else; whatever is summed stays as it was."""
    told = await everything_told(used)
    ids = await used.rows(
        f"SELECT request_id FROM request WHERE created_at_ms < {NOVEMBER.begin_ms} ORDER BY number"
    )
    archived = await archive(used, tmp_path / "old.jsonl.gz")
    assert ArchiveResult(24, tmp_path / "old.jsonl.gz") == archived
    lines = read(tmp_path / "old.jsonl.gz")
    assert [name for (name,) in ids] == [line["request"]["request_id"] for line in lines]
    assert 0 == sum(amount for line in lines for _, amount in line["entries"])
    assert [(12, 12)] == await used.rows(
        "SELECT count(*), (SELECT count(*) FROM entry WHERE kind = 'charge') FROM request"
    )
    assert told == await everything_told(used)
    audit = await used.ledger.auditor.audit()
    assert ([], 24) == (audit.differences, audit.covered.num_archived)
    assert 0o600 == (tmp_path / "old.jsonl.gz").stat().st_mode & 0o777


async def test_a_request_archived_before_its_gateway_came_back_is_not_charged(
    books: Books, tmp_path: Path
) -> None:
    """A sweep voided it and the archive took it: settling it late charges nothing, and ends."""
    go_to(books, SEPTEMBER, 1)
    hold = await books.hold(request_id="late")
    go_to(books, NOVEMBER, 1)
    assert 1 == await books.ledger.leases.sweep()
    await use(books, NOVEMBER, num_requests=3)  # the newest request is never archived
    assert 1 == (await archive(books, tmp_path / "file.gz")).num_requests
    before = await everything_told(books)

    async with asyncio.timeout(10):  # an error of the database would be retried for ever
        assert 0 == await books.ledger.settle(hold, usage=USAGE, outcome=Outcome.STOP)
        await books.ledger.void(hold, outcome=Outcome.ENGINE_ERROR)

    assert before == await everything_told(books)
    assert [] == await audit_differences(books.ledger)


async def test_life_goes_on_after_an_archive(used: Books, tmp_path: Path) -> None:
    """Sums that are lost are made anew from what was carried forward; a next archive adds to it."""
    await archive(used, tmp_path / "first", OCTOBER)
    await archive(used, tmp_path / "second")
    assert ArchiveResult(0, None) == await archive(used, tmp_path / "third")
    await use(used, Month(2026, 12))
    told = await everything_told(used)
    await used.tamper("UPDATE balance SET spent_picousd = 0", "DELETE FROM usage_day")
    await used.ledger.auditor.rebuild()
    assert [] == await audit_differences(used.ledger)
    assert told == await everything_told(used)


async def test_what_is_not_resolved_stays(used: Books, tmp_path: Path) -> None:
    """A request that is still held when its month is archived is charged as any other."""
    go_to(used, Month(2026, 12), 1)
    hold = await used.hold(request_id="held")
    await use(used, Month(2027, 1), num_requests=1)
    await archive(used, tmp_path / "old", Month(2027, 1))
    assert [("held",)] == await used.rows("SELECT request_id FROM request WHERE state = 'HELD'")
    await used.ledger.settle(hold, usage=USAGE, outcome=Outcome.STOP)
    assert [] == await audit_differences(used.ledger)


async def test_scopes_and_names_outlast_an_archive(used: Books, tmp_path: Path) -> None:
    """What a limited token has spent is carried forward; a request that has a name stays."""
    go_to(used, NOVEMBER, 20)
    scope = scope_of(used, 10**12)
    for _ in range(2):
        scoped = await hold_with(used, scope)
        await used.ledger.settle(scoped, usage=USAGE, outcome=Outcome.STOP)
    named = await used.hold(request_id="named")
    await used.ledger.settle(named, usage=USAGE, outcome=Outcome.STOP)
    name = (
        "INSERT INTO idempotency_key (account_id, key, fingerprint, request_number, expires_at_ms,"
        f" answer) VALUES ({used.account_id}, 'k', '0', {named.held.number}, {2**42}, '1')"
    )
    await used.database.write(lambda connection: connection.exec_driver_sql(name))
    await use(used, Month(2026, 12), num_requests=1)
    told = await everything_told(used)
    december = Month(2026, 12)
    await archive(used, tmp_path / "old", december)
    assert [("named",)] == await used.rows(
        f"SELECT request_id FROM request WHERE created_at_ms < {december.begin_ms}"
    )
    assert [] == await audit_differences(used.ledger)
    assert told == await everything_told(used)


async def test_a_death_in_the_middle_loses_nothing(
    used: Books, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each request is in the ledger or in its sums; the next archive takes what is left."""
    told = await everything_told(used)
    moves = iter(range(99))
    move = rows.move

    def die(*args: Any, **kwargs: Any) -> int:
        if next(moves) == 2:
            raise StoreUnavailableError("gone")
        return move(*args, **kwargs)

    monkeypatch.setattr(rows, "move", die)
    with pytest.raises(StoreUnavailableError):
        await archive(used, tmp_path / "first")
    audit = await used.ledger.auditor.audit()
    assert ([], 10) == (audit.differences, audit.covered.num_archived)
    assert told == await everything_told(used)
    assert 14 == (await archive(used, tmp_path / "second")).num_requests
    assert [] == await audit_differences(used.ledger)
    assert told == await everything_told(used)
    moved = [line["request"]["number"] for line in read(tmp_path / "first")[:10]]
    moved += [line["request"]["number"] for line in read(tmp_path / "second")]
    assert len(set(moved)) == len(moved) == 24


async def test_what_is_not_as_the_file_says_is_kept(
    used: Books, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row is deleted only where the file has every column and entry of it."""

    def misread(*args: Any, **kwargs: Any) -> Any:
        for some in read_archive(*args, **kwargs):
            some[0].entries.append([1, 1])
            yield some

    monkeypatch.setattr(archive_module, "read_archive", misread)
    with pytest.raises(ConflictError, match="not what its archive says"):
        await archive(used, tmp_path / "old")
    assert [(36,)] == await used.rows("SELECT count(*) FROM request")
    assert [] == await audit_differences(used.ledger)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE archived_day SET cost_picousd = cost_picousd - 1",
        "UPDATE archived_day SET num_settled = num_settled + 1",
        "DELETE FROM archived_day",
        "UPDATE carried SET amount_picousd = amount_picousd + 1",
        "UPDATE carried SET amount_picousd = 0",
        "DELETE FROM carried",
    ],
)
async def test_tampering_with_what_was_carried_is_found(
    used: Books, tmp_path: Path, statement: str
) -> None:
    """The sums that stand for archived requests are audited as the requests were."""
    await archive(used, tmp_path / "old")
    await used.tamper(statement)
    assert [] != await audit_differences(used.ledger)


@pytest.mark.parametrize("table", ["request", "entry", "archived_day", "carried"])
async def test_nothing_else_deletes(used: Books, tmp_path: Path, table: str) -> None:
    """History cannot be deleted at a prompt, though archives delete it."""
    await archive(used, tmp_path / "old")
    with pytest.raises(ConflictError, match=r"kept|append-only"):
        await used.database.write(lambda c: c.exec_driver_sql(f"DELETE FROM {table}"))


async def test_archives_that_cannot_be_are_refused(used: Books, tmp_path: Path) -> None:
    """A month that is not over, a file that exists and a second one at once are named."""
    with pytest.raises(InvalidRequestError, match=r"2026-11 is not over.*2026-11"):
        await archive(used, tmp_path / "old", Month(2026, 12))
    (tmp_path / "old").write_text("mine")
    with pytest.raises(ConfigError, match="exists already"):
        await archive(used, tmp_path / "old")
    assert "mine" == (tmp_path / "old").read_text()
    await used.tamper("UPDATE archive SET finished_at_ms = NULL")
    with pytest.raises(ConflictError, match="are being moved"):
        await archive(used, tmp_path / "other")
    used.clock.advance(3601)
    assert 24 == (await archive(used, tmp_path / "other")).num_requests
