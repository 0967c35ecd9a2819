"""Inserts postings, whose amounts sum to zero; they are never changed."""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, insert

from stillhouse.store.backends.prepared import Prepared
from stillhouse.store.tables import entry, top_up

#: The house's account that every charge goes to; the first migration makes it.
REVENUE_ACCOUNT_ID = 1

#: The house's account that customers' payments come from.
FUNDING_ACCOUNT_ID = 2

CHARGE = "charge"
TOP_UP = "top_up"

_INSERT_POSTING = Prepared(
    insert(entry).values(
        [
            {
                "reference": bindparam("of"),
                "kind": bindparam("of_kind"),
                "account_id": bindparam(f"{side}_account"),
                "amount_picousd": bindparam(f"{side}_amount"),
            }
            for side in ("payer", "payee")
        ]
    )
)


def insert_charge(
    connection: Connection, *, request_number: int, account_id: int, cost_picousd: int
) -> None:
    """Moves a request's cost from its account to the house; a free request moves nothing."""
    if cost_picousd:
        _insert_posting(
            connection,
            (CHARGE, request_number),
            payer_id=account_id,
            payee_id=REVENUE_ACCOUNT_ID,
            amount_picousd=cost_picousd,
        )


def insert_top_up(
    connection: Connection, *, account_id: int, amount_picousd: int, note: str, created_at_ms: int
) -> None:
    """Moves a customer's payment to its account."""
    row = {
        "account_id": account_id,
        "amount_picousd": amount_picousd,
        "note": note,
        "created_at_ms": created_at_ms,
    }
    number = connection.execute(insert(top_up).returning(top_up.c.number), row).scalar_one()
    _insert_posting(
        connection,
        (TOP_UP, number),
        payer_id=FUNDING_ACCOUNT_ID,
        payee_id=account_id,
        amount_picousd=amount_picousd,
    )


def _insert_posting(
    connection: Connection,
    posting: tuple[str, int],
    *,
    payer_id: int,
    payee_id: int,
    amount_picousd: int,
) -> None:
    """Moves an amount under one kind and reference: two entries, which sum to zero."""
    kind, reference = posting
    row = {
        "of": reference,
        "of_kind": kind,
        "payer_account": payer_id,
        "payer_amount": -amount_picousd,
        "payee_account": payee_id,
        "payee_amount": amount_picousd,
    }
    _INSERT_POSTING.run(connection, row)
