"""Reads and writes the rows of customers' accounts."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, insert, select

from stillhouse.store.ledger import balances
from stillhouse.store.ledger.balances import ACCOUNT, ALL_TIME, Balance, BalanceKey
from stillhouse.store.tables import account

CUSTOMER = "customer"


@dataclass(frozen=True, slots=True)
class AccountRow:
    """A customer."""

    id: int
    name: str
    created_at_ms: int
    is_prepaid: bool


_SELECT = (
    select(account.c.id, account.c.name, account.c.created_at_ms, account.c.is_prepaid)
    .where(account.c.kind == CUSTOMER)
    .order_by(account.c.id)
)


def insert_customer(
    connection: Connection, *, name: str, created_at_ms: int, is_prepaid: bool = False
) -> AccountRow:
    """
    Inserts an account with an empty balance.

    Args:
        is_prepaid: It can spend what it has paid in; otherwise it pays afterwards, without limit.

    Raises:
        IntegrityError: An account has this name.

    """
    row = {
        "kind": CUSTOMER,
        "name": name,
        "created_at_ms": created_at_ms,
        "is_prepaid": is_prepaid,
    }
    account_id = connection.execute(insert(account).returning(account.c.id), row).scalar_one()
    of_account = BalanceKey(ACCOUNT, account_id, ALL_TIME)
    balances.insert_row(connection, of_account, Balance(0, 0, 0 if is_prepaid else None))
    return AccountRow(account_id, name, created_at_ms, is_prepaid)


def fetch_customers(connection: Connection) -> list[AccountRow]:
    """Returns every customer's account, oldest first."""
    return [AccountRow(*row) for row in connection.execute(_SELECT)]
