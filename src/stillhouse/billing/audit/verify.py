"""Recomputes everything that the ledger derives, and names the differences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from stillhouse.store.backends.timeouts import extend_timeout
from stillhouse.store.database import Connection
from stillhouse.store.ledger import audit, balances, idempotency, usage_days
from stillhouse.store.ledger.balances import Balance, BalanceKey
from stillhouse.store.ledger.coverage import Coverage, fetch_coverage
from stillhouse.store.ledger.usage_days import DayKey, DaySums

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Difference:
    """
    A value in the ledger that contradicts other rows.

    Args:
        subject: The request, posting or balance in question.
        fact: The contradiction, with both numbers where there are two.

    """

    subject: str
    fact: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.fact}"


@dataclass(frozen=True, slots=True)
class Audit:
    """
    The result of an audit.

    Args:
        covered: The numbers of rows and amounts that it covered.
        differences: Empty if the ledger is exactly right.

    """

    covered: Coverage
    differences: list[Difference]


def audit_ledger(connection: Connection, *, now_ms: int) -> Audit:
    """Checks every request, posting and balance, and counts them."""
    extend_timeout(connection)
    return Audit(fetch_coverage(connection), find_differences(connection, now_ms=now_ms))


def find_differences(connection: Connection, *, now_ms: int) -> list[Difference]:
    """Returns the contradictions of every request, posting and balance; empty if there are none."""
    extend_timeout(connection)
    return [
        *_differing_rows(connection),
        *_differing_sums(connection),
        *(
            Difference(f"request {request_id}", "holds money, but its lease has ended")
            for request_id in audit.fetch_overdue_holds(connection, now_ms=now_ms)
        ),
        *(
            Difference(
                f"request {request_id}", "has a charge without its kept answer, or the reverse"
            )
            for request_id in idempotency.fetch_wrong(connection)
        ),
        *(
            Difference(f"request {request_id}", "was made with a scope of another key")
            for request_id in audit.fetch_foreign_scopes(connection)
        ),
    ]


def _differing_rows(connection: Connection) -> Iterator[Difference]:
    for wrong in audit.fetch_wrong_costs(connection):
        yield _difference("request", wrong, "costs", "its tokens come to")
    for wrong in audit.fetch_wrong_charges(connection):
        yield _difference("request", wrong, "was charged", "it cost")
    for wrong in audit.fetch_wrong_top_ups(connection):
        yield _difference("top-up", wrong, "was credited", "was paid in as")
    for wrong in audit.fetch_unbalanced_postings(connection):
        yield _difference("posting", wrong, "sums to", "every posting sums to")
    for wrong in audit.fetch_wrong_archives(connection):
        yield _difference("archive", wrong, "carries", "its requests come to")
    for wrong in audit.fetch_stray_entries(connection):
        yield _difference("posting", wrong, "moves", "nothing stands behind it, so it moves")


def _difference(kind: str, wrong: audit.Wrong, found: str, expected: str) -> Difference:
    return Difference(
        f"{kind} {wrong.subject}",
        f"{found} {wrong.found} pico-USD, but {expected} {wrong.expected} pico-USD",
    )


@dataclass(frozen=True, slots=True)
class WrongSums:
    """Holds the sums and balances that differ from their rows, each with its right value."""

    days: list[tuple[DayKey, DaySums | None, DaySums | None]]
    balances: list[tuple[BalanceKey, Balance | None, Balance | None]]


def find_wrong_sums(connection: Connection) -> WrongSums:
    """Recomputes all derived sums."""
    extend_timeout(connection)
    days = audit.recompute_days(connection)
    kept = balances.fetch_all(connection)
    due = audit.recompute_balances(connection, kept, days)
    return WrongSums(
        list(_differing(usage_days.fetch_all(connection), days)), list(_differing(kept, due))
    )


def _differing_sums(connection: Connection) -> Iterator[Difference]:
    wrong = find_wrong_sums(connection)
    for day, sums, due_sums in wrong.days:
        yield Difference(
            f"usage of key {day.key_id} on day {day.day} at price {day.price_version}",
            f"is {sums}, but its requests sum to {due_sums}",
        )
    for key, balance, due in wrong.balances:
        subject = f"balance of {key.holder} {key.holder_id}"
        if key.period != balances.ALL_TIME:
            subject += f" in {key.period}"
        yield Difference(subject, f"is {balance}, but its rows sum to {due}")


def _differing(
    kept: Mapping[K, V], recomputed: Mapping[K, V]
) -> Iterator[tuple[K, V | None, V | None]]:
    for key in kept.keys() | recomputed.keys():
        if kept.get(key) != recomputed.get(key):
            yield key, kept.get(key), recomputed.get(key)
