"""How many keys an account has, and how fast it may make them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from stillhouse.accounts.accounts import Account, Accounts
from stillhouse.accounts.config import AccountsConfig
from stillhouse.clock import FrozenClock
from stillhouse.errors import RateLimitError, TooManyKeysError
from stillhouse.store.database import Database

RULES = AccountsConfig(max_keys=4, keys_minted_per_minute=3)


@pytest.fixture
async def accounts(
    database: Database, clock: FrozenClock, tmp_path: Path
) -> AsyncIterator[Accounts]:
    accounts = await Accounts.open(database, clock, tmp_path, RULES)
    yield accounts
    await accounts.close()


@pytest.fixture
async def account(accounts: Accounts) -> Account:
    return await accounts.create_account("alice")


async def test_account_has_so_many_live_keys(
    accounts: Accounts, clock: FrozenClock, account: Account
) -> None:
    """A key too many is refused, the operator's too; a revoked or expired one makes room."""
    await accounts.keys.mint(account.id, "short", expires_at_ms=clock.now_ms() + 1000)
    for number in range(3):
        await accounts.keys.mint(account.id, f"key {number}")
    with pytest.raises(TooManyKeysError, match="has 4 API keys, and may have 4"):
        await accounts.keys.mint(account.id, "more")
    clock.advance(1)
    await accounts.keys.mint(account.id, "more")
    with pytest.raises(TooManyKeysError):
        await accounts.keys.mint(account.id, "still more")
    await accounts.keys.revoke_named("key 0")
    await accounts.keys.mint(account.id, "still more")


async def test_another_accounts_keys_do_not_count(accounts: Accounts, account: Account) -> None:
    """Each account has keys, and a rate, of its own."""
    for number in range(3):
        await accounts.keys.mint(account.id, f"key {number}", is_by_customer=True)
    bob = await accounts.create_account("bob")
    await accounts.keys.mint(bob.id, "key", is_by_customer=True)


async def test_customer_mints_so_many_a_minute(
    accounts: Accounts, clock: FrozenClock, account: Account
) -> None:
    """Making and revoking without end is bounded, to the millisecond; the operator is not."""
    for number in range(3):
        await accounts.keys.mint(account.id, f"key {number}", is_by_customer=True)
        await accounts.keys.revoke_named(f"key {number}")
        clock.advance(1)
    with pytest.raises(RateLimitError, match="3 API keys within a minute") as refused:
        await accounts.keys.mint(account.id, "more", is_by_customer=True)
    assert 57 == refused.value.retry_after_s
    clock.advance(56.999)
    with pytest.raises(RateLimitError):
        await accounts.keys.mint(account.id, "more", is_by_customer=True)
    await accounts.keys.mint(account.id, "the operator's")
    clock.advance(60)
    await accounts.keys.mint(account.id, "more", is_by_customer=True)


async def test_bounds_hold_over_all_gateways(
    accounts: Accounts, account: Account, clock: FrozenClock, tmp_path: Path, place: Path | str
) -> None:
    """Two gateways on one ledger that are asked at once make no more keys than one does."""
    with Database.open(place) as other:
        beside = await Accounts.open(other, clock, tmp_path, RULES)
        made = await asyncio.gather(
            *(
                gateway.keys.mint(account.id, f"{name} {number}", is_by_customer=True)
                for number in range(5)
                for name, gateway in (("a", accounts), ("b", beside))
            ),
            return_exceptions=True,
        )
    assert 3 == sum(not isinstance(minted, Exception) for minted in made)
    assert 3 == len(await accounts.keys.list_live(account.id))
