"""Counts the rows of a ledger, to describe what an audit has covered."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from stillhouse.store import identity
from stillhouse.store.ledger.requests import IS_HELD
from stillhouse.store.tables import account, archive, archived_day, entry, request, top_up


@dataclass(frozen=True, slots=True)
class Coverage:
    """
    A ledger in numbers.

    Args:
        first_request_at_ms: When its oldest request was admitted; None where it has none.
        num_accounts: Customers.
        num_archived: Requests that were moved into files; the sums that stand for them are audited.
        charged_picousd: The total cost of its requests, archived ones included.
        paid_in_picousd: The total of customers' top-ups.

    """

    ledger_id: str
    num_requests: int
    num_held: int
    first_request_at_ms: int | None
    last_request_at_ms: int | None
    num_entries: int
    num_accounts: int
    num_archived: int
    charged_picousd: int
    paid_in_picousd: int


def fetch_coverage(connection: Connection) -> Coverage:
    """Counts the ledger's rows."""
    number, first_ms, last_ms, charged = connection.execute(
        select(
            func.count(),
            func.min(request.c.created_at_ms),
            func.max(request.c.created_at_ms),
            func.coalesce(func.sum(request.c.cost_picousd), 0),
        ).select_from(request)
    ).one()
    archived = connection.execute(
        select(func.coalesce(func.sum(archived_day.c.cost_picousd), 0))
    ).scalar_one()
    counts = {
        "num_held": select(func.count()).select_from(request).where(IS_HELD),
        "num_archived": select(func.coalesce(func.sum(archive.c.num_requests), 0)),
        "num_entries": select(func.count()).select_from(entry),
        "num_accounts": select(func.count())
        .select_from(account)
        .where(account.c.kind == "customer"),
        "paid_in_picousd": select(func.coalesce(func.sum(top_up.c.amount_picousd), 0)),
    }
    return Coverage(
        ledger_id=identity.find_id(connection) or "",
        num_requests=number,
        first_request_at_ms=first_ms,
        last_request_at_ms=last_ms,
        charged_picousd=int(charged) + int(archived),
        **{name: int(connection.execute(query).scalar_one()) for name, query in counts.items()},
    )
