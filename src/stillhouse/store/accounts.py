"""Customers' accounts."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, insert, select

from stillhouse.store import balances
from stillhouse.store.tables import account

CUSTOMER = "customer"


@dataclass(frozen=True, slots=True)
class AccountRow:
    """A customer."""

    id: int
    name: str
    created_at_ms: int


_SELECT = (
    select(account.c.id, account.c.name, account.c.created_at_ms)
    .where(account.c.kind == CUSTOMER)
    .order_by(account.c.id)
)


def insert_customer(connection: Connection, *, name: str, created_at_ms: int) -> AccountRow:
    """
    Insert an account with an empty balance.

    Raises:
        IntegrityError: An account has this name.

    """
    row = {"kind": CUSTOMER, "name": name, "created_at_ms": created_at_ms}
    account_id = connection.execute(insert(account).returning(account.c.id), row).scalar_one()
    balances.insert_account(connection, account_id)
    return AccountRow(account_id, name, created_at_ms)


def fetch_customers(connection: Connection) -> list[AccountRow]:
    """Every customer's account, oldest first."""
    return [AccountRow(*row) for row in connection.execute(_SELECT)]
