"""Money that moved: postings whose amounts sum to zero, written once and never changed."""

from __future__ import annotations

from sqlalchemy import Connection, insert

from stillhouse.store.prepared import Prepared
from stillhouse.store.tables import entry

#: The house's account that every charge goes to; the first migration makes it.
REVENUE_ACCOUNT_ID = 1

#: The house's account that customers' payments come from.
FUNDING_ACCOUNT_ID = 2

CHARGE = "charge"

_INSERT = Prepared(insert(entry), "reference", "kind", "account_id", "amount_picousd")


def insert_charge(
    connection: Connection, *, request_number: int, account_id: int, cost_picousd: int
) -> None:
    """Move a request's cost from its account to the house; a free request moves nothing."""
    if cost_picousd == 0:
        return
    posting = {"reference": request_number, "kind": CHARGE}
    _INSERT.run_many(
        connection,
        [
            {**posting, "account_id": account_id, "amount_picousd": -cost_picousd},
            {**posting, "account_id": REVENUE_ACCOUNT_ID, "amount_picousd": cost_picousd},
        ],
    )
