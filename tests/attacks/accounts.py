"""Creates accounts and API keys of a running server, as its operator does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from stillhouse.app.services import Services, open_services
from tests.faults.fault_server import FaultServer

T = TypeVar("T")
USD = 10**12  # in picodollars


@dataclass(frozen=True, slots=True)
class Account:
    """
    An account with a key.

    Args:
        secret: The secret of the first key.

    """

    id: int
    name: str
    secret: str

    @property
    def headers(self) -> dict[str, str]:
        return bearer(self.secret)


def bearer(secret: str) -> dict[str, str]:
    """Return the authorization header for a key or token."""
    return {"Authorization": f"Bearer {secret}"}


def open_account(server: FaultServer, name: str, *, prepaid_usd: int | None = None) -> Account:
    """Create an account with a key; without *prepaid_usd* it is billed afterwards."""

    async def open_it(services: Services) -> Account:
        is_prepaid = prepaid_usd is not None
        account = await services.accounts.create_account(name, is_prepaid=is_prepaid)
        if prepaid_usd is not None:
            await services.ledger.limits.top_up(account.id, prepaid_usd * USD)
        minted = await services.accounts.keys.mint(account.id, "first-key")
        return Account(account.id, name, minted.secret)

    return with_services(server, open_it)


def mint_keys(server: FaultServer, account: Account, number: int) -> list[str]:
    """Create further keys of one account."""

    async def mint(services: Services) -> list[str]:
        names = [f"key-{index}" for index in range(number)]
        return [(await services.accounts.keys.mint(account.id, name)).secret for name in names]

    return with_services(server, mint)


def with_services(server: FaultServer, work: Callable[[Services], Awaitable[T]]) -> T:
    """Run a function on the ledger's services, as a command beside the running server does."""

    async def do() -> T:
        async with open_services(server.home) as services:
            return await work(services)

    return asyncio.run(do())
