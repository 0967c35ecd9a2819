"""Failed authentications are bounded, and nobody is locked out by another's."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest

from stillhouse.accounts.accounts import Accounts, MintedKey
from stillhouse.accounts.authentication import auth_failures
from stillhouse.accounts.authentication.auth_failures import AuthFailures
from stillhouse.accounts.authentication.principal_cache import LIFETIME_S
from stillhouse.accounts.config import AccountsConfig
from stillhouse.accounts.keys import api_key
from stillhouse.clock import FrozenClock
from stillhouse.errors import AuthenticationError, RateLimitError
from stillhouse.store.database import Connection, Database

PER_MINUTE = 5
RULES = AccountsConfig(auth_failures_per_minute=PER_MINUTE)
OFFICE, HOME = "192.0.2.7", "198.51.100.1"


@pytest.fixture
async def accounts(database: Database, clock: FrozenClock, tmp_path: Path) -> Any:
    accounts = await Accounts.open(database, clock, tmp_path, RULES)
    yield accounts
    await accounts.close()


@pytest.fixture
async def key(accounts: Accounts) -> MintedKey:
    account = await accounts.create_account("alice")
    return await accounts.keys.mint(account.id, "laptop")


def token(key: MintedKey, *, secret: str | None = None, name: str = "laptop", **claims: Any) -> str:
    uid = f"sh:{key.key.account_id}"
    kid = f"{uid}:{base64.b64encode(name.encode()).decode()}"
    payload = {"sub": uid, "exp": 2**33, **claims}
    return "jwt:" + jwt.encode(payload, secret or key.secret, "HS256", headers={"kid": kid})


def forged(key: MintedKey, number: int = 0) -> str:
    return token(key, secret="x" * 32, jti=str(number))


async def refusals(accounts: Accounts, secrets: list[str], address: str) -> list[type[Exception]]:
    told: list[type[Exception]] = []
    for secret in secrets:
        with pytest.raises((AuthenticationError, RateLimitError)) as refused:
            await accounts.authenticate(secret, address)
        told.append(next(kind for kind in KINDS if isinstance(refused.value, kind)))
    return told


KINDS = (AuthenticationError, RateLimitError)
BOUNDED: list[type[Exception]] = [AuthenticationError] * PER_MINUTE + [RateLimitError] * 3

WRONG: dict[str, Callable[[MintedKey, int], str]] = {
    "unknown key": lambda _key, _number: api_key.mint(),
    "forged token": forged,
    "token of no key": lambda key, number: token(key, name=f"none {number}"),
}


@pytest.mark.parametrize("kind", ["unknown key", "forged token"])
async def test_failures_of_an_address_are_bounded(
    accounts: Accounts, clock: FrozenClock, key: MintedKey, kind: str
) -> None:
    """Beyond a minute's worth, failures are answered with 429 until the bucket has one more."""
    wrong = [WRONG[kind](key, number) for number in range(2 * PER_MINUTE)]
    assert BOUNDED == await refusals(accounts, wrong[: PER_MINUTE + 3], OFFICE)
    clock.advance(60 / PER_MINUTE)
    again = await refusals(accounts, wrong[:2], OFFICE)
    assert [AuthenticationError, RateLimitError] == again


async def test_refusal_says_when_to_come_back(accounts: Accounts, clock: FrozenClock) -> None:
    """Who waits as long as he is told to is heard again."""
    for _ in range(PER_MINUTE):
        with pytest.raises(AuthenticationError):
            await accounts.authenticate(api_key.mint(), OFFICE)
    with pytest.raises(RateLimitError, match="from this address") as refused:
        await accounts.authenticate(api_key.mint(), OFFICE)
    clock.advance(refused.value.retry_after_s)
    with pytest.raises(AuthenticationError):
        await accounts.authenticate(api_key.mint(), OFFICE)


async def test_real_keys_get_in_beside_an_attacker(
    accounts: Accounts, clock: FrozenClock, key: MintedKey
) -> None:
    """Behind an address that fails without end, keys and tokens work: known, new and just made."""
    await accounts.authenticate(key.secret, OFFICE)
    await refusals(accounts, [api_key.mint() for _ in range(PER_MINUTE + 3)], OFFICE)
    clock.advance(LIFETIME_S)
    late = await accounts.keys.mint(key.key.account_id, "phone")
    for secret in (key.secret, late.secret, token(key), token(late, name="phone")):
        await accounts.authenticate(secret, OFFICE)
    assert [RateLimitError] == await refusals(accounts, [api_key.mint()], OFFICE)


async def test_a_new_key_works_at_once_where_others_guess(
    accounts: Accounts, key: MintedKey
) -> None:
    """It is made in the second in which the ledger was asked for new ones already."""
    await refusals(accounts, [api_key.mint() for _ in range(PER_MINUTE + 2)], OFFICE)
    late = await accounts.keys.mint(key.key.account_id, "phone")
    for secret in (late.secret, token(late, name="phone")):
        await accounts.authenticate(secret, OFFICE)


async def test_forged_tokens_do_not_lock_their_key_out(accounts: Accounts, key: MintedKey) -> None:
    """However many tokens of a key are forged, the key and its real tokens work everywhere."""
    before = token(key, jti="before")
    await accounts.authenticate(before, HOME)
    for number in range(PER_MINUTE + 3):  # each address but once
        await refusals(accounts, [forged(key, number)], f"203.0.113.{number}")
    assert [RateLimitError] == await refusals(accounts, [forged(key, 99)], "203.0.113.99")
    for address in (HOME, OFFICE, "203.0.113.1"):
        for secret in (key.secret, before, token(key, jti=address)):
            await accounts.authenticate(secret, address)


async def test_who_is_over_the_bound_costs_no_queries(
    accounts: Accounts, key: MintedKey, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand guesses beyond the bound ask the ledger once in all, whatever they name."""
    await refusals(accounts, [api_key.mint() for _ in range(PER_MINUTE)], OFFICE)
    num_reads = 0
    read = database.read

    async def counted(work: Callable[[Connection], Any]) -> Any:
        nonlocal num_reads
        num_reads += 1
        return await read(work)

    monkeypatch.setattr(database, "read", counted)
    guesses = [
        WRONG[kind](key, n) for n in range(300) for kind in ("unknown key", "token of no key")
    ]
    assert {RateLimitError} == set(await refusals(accounts, guesses, OFFICE))
    assert 1 == num_reads


async def test_address_is_an_ipv6_network() -> None:
    """A subscriber's own 2**64 addresses share one bound; another's are not touched by it."""
    failures = AuthFailures(1, FrozenClock())
    wrong = AuthenticationError("wrong")
    assert wrong is failures.count(wrong, "2001:db8:1:1::1")
    assert isinstance(failures.count(wrong, "2001:db8:1:1:ffff::2"), RateLimitError)
    assert failures.is_over("2001:db8:1:1::9%eth0")
    assert not failures.is_over("2001:db8:1:2::1")
    assert wrong is failures.count(wrong, "192.0.2.1")
    assert failures.is_over("::ffff:192.0.2.1")
    assert wrong is failures.count(wrong, "a socket")


def test_memory_of_failures_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many addresses fail, only so many are remembered; those that failed last."""
    monkeypatch.setattr(auth_failures, "MAX_ENTRIES", 10)
    failures = AuthFailures(1, FrozenClock())
    wrong = AuthenticationError("wrong")
    for number in range(100):
        failures.count(wrong, f"192.0.2.{number}", key_id=number)
    assert 10 == len(failures._by_address._buckets) == len(failures._by_key._buckets)
    assert failures.is_over("192.0.2.99")
    assert not failures.is_over("192.0.2.1")


async def test_failures_write_nothing(
    accounts: Accounts, key: MintedKey, database: Database
) -> None:
    """No failed authentication writes to the ledger, whatever was wrong and however often."""
    num_commits = database.num_commits
    wrong = [make(key, number) for number in range(2 * PER_MINUTE) for make in WRONG.values()]
    wrong += ["sh_", "jwt:", "jwt:..", token(key, exp=1), "x" * 5000]
    for address in (OFFICE, HOME):
        await refusals(accounts, wrong, address)
    await accounts.close()
    assert num_commits == database.num_commits


async def test_tokens_write_nothing_until_they_are_spent(
    accounts: Accounts, key: MintedKey, database: Database
) -> None:
    """A thousand tokens that a client signs itself cost the ledger no row, and one note of use."""
    num_commits = database.num_commits
    for number in range(1000):
        await accounts.authenticate(token(key, jti=str(number), spending_limit=1), HOME)
    await accounts.close()
    assert num_commits + 1 >= database.num_commits


async def test_key_of_an_older_ledger_is_sealed_when_it_is_used(
    accounts: Accounts, key: MintedKey, clock: FrozenClock, database: Database
) -> None:
    """Tokens of a key that has no sealed secret are refused, and say what to do; then they work."""
    await database.write(_forget_sealed_secrets)
    for _ in range(2 * PER_MINUTE):  # nobody's failure, and so not counted
        with pytest.raises(AuthenticationError, match=r"'laptop' cannot be checked .* used once"):
            await accounts.authenticate(token(key), OFFICE)
    await accounts.authenticate(key.secret, OFFICE)
    await accounts.close()
    clock.advance(LIFETIME_S)
    await accounts.authenticate(token(key), OFFICE)


def _forget_sealed_secrets(connection: Connection) -> None:
    connection.exec_driver_sql("UPDATE api_key SET sealed_secret = NULL")
