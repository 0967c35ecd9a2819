"""Money that moved: postings whose amounts sum to zero, written once and never changed."""

from __future__ import annotations

from sqlalchemy import Connection, insert

from stillhouse.store.prepared import Prepared
from stillhouse.store.tables import entry, top_up

#: The house's account that every charge goes to; the first migration makes it.
REVENUE_ACCOUNT_ID = 1

#: The house's account that customers' payments come from.
FUNDING_ACCOUNT_ID = 2

CHARGE = "charge"
TOP_UP = "top_up"

_INSERT = Prepared(insert(entry), "reference", "kind", "account_id", "amount_picousd")


def insert_charge(
    connection: Connection, *, request_number: int, account_id: int, cost_picousd: int
) -> None:
    """Move a request's cost from its account to the house; a free request moves nothing."""
    if cost_picousd:
        _insert_posting(
            connection,
            {"reference": request_number, "kind": CHARGE},
            {account_id: -cost_picousd, REVENUE_ACCOUNT_ID: cost_picousd},
        )


def insert_top_up(
    connection: Connection, *, account_id: int, amount_picousd: int, note: str, created_at_ms: int
) -> None:
    """Move what a customer paid in to its account."""
    row = {
        "account_id": account_id,
        "amount_picousd": amount_picousd,
        "note": note,
        "created_at_ms": created_at_ms,
    }
    number = connection.execute(insert(top_up).returning(top_up.c.number), row).scalar_one()
    _insert_posting(
        connection,
        {"reference": number, "kind": TOP_UP},
        {account_id: amount_picousd, FUNDING_ACCOUNT_ID: -amount_picousd},
    )


def _insert_posting(
    connection: Connection, posting: dict[str, int | str], amounts_picousd: dict[int, int]
) -> None:
    """Insert the entries of one posting, an amount per account."""
    assert sum(amounts_picousd.values()) == 0, "money neither appears nor vanishes"
    _INSERT.run_many(
        connection,
        [
            {**posting, "account_id": account_id, "amount_picousd": amount}
            for account_id, amount in amounts_picousd.items()
        ],
    )
