from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from stillhouse.accounts.accounts import Accounts
from stillhouse.accounts.authentication.authenticator import LAST_USED_STEP_MS
from stillhouse.accounts.authentication.principal_cache import LIFETIME_S
from stillhouse.accounts.keys import api_key
from stillhouse.accounts.keys.pepper import Pepper
from stillhouse.clock import FrozenClock
from stillhouse.errors import (
    AuthenticationError,
    ConfigError,
    InvalidRequestError,
    StoreUnavailableError,
)
from stillhouse.store.database import Database
from tests.ledger_storage import stored_bytes


async def test_key_is_its_accounts_principal(accounts: Accounts) -> None:
    """A minted key says at once on whose behalf its requests are made."""
    account = await accounts.create_account("alice")
    minted = await accounts.keys.mint(account.id, "laptop")
    principal = await accounts.authenticate(minted.secret)
    assert (account.id, minted.key.id, "laptop") == (
        principal.account_id,
        principal.key_id,
        principal.key_name,
    )


@pytest.mark.parametrize(
    ("allowed_models", "may_use"),
    [(None, True), (frozenset[str](), False), (frozenset({"a/b"}), True)],
)
async def test_key_is_for_the_models_it_names(
    accounts: Accounts, *, allowed_models: frozenset[str] | None, may_use: bool
) -> None:
    """A key is for every model, or for those it names; naming none is not the same as all."""
    account = await accounts.create_account("alice")
    minted = await accounts.keys.mint(account.id, "laptop", allowed_models=allowed_models)
    principal = await accounts.authenticate(minted.secret)
    assert [minted.key] == [
        replace(key, last_used_at_ms=None) for key in await accounts.keys.list_all()
    ]
    assert (may_use, allowed_models is None) == (
        principal.may_use("a/b"),
        principal.may_use("c/d"),
    )


@pytest.mark.parametrize("secret", [None, ""])
async def test_missing_key_is_not_authenticated(accounts: Accounts, secret: str | None) -> None:
    """A request without a key is told so in DeepInfra's words."""
    with pytest.raises(AuthenticationError, match=r"^Not authenticated$"):
        await accounts.authenticate(secret)


async def test_wrong_checksum_is_refused_without_the_ledger(
    accounts: Accounts, database: Database
) -> None:
    """A made-up key is refused without a query: even while the ledger is closed."""
    database.close()
    with pytest.raises(AuthenticationError, match="Incorrect API key provided"):
        await accounts.authenticate("sh_" + "0" * 33)


async def test_unknown_key_is_refused(accounts: Accounts) -> None:
    """A key of another server is refused in the same words as any wrong key."""
    with pytest.raises(AuthenticationError, match="Incorrect API key provided"):
        await accounts.authenticate(api_key.mint())


async def test_known_key_needs_no_query(
    accounts: Accounts, database: Database, clock: FrozenClock
) -> None:
    """Within a second of its last query a key works without one; then the ledger is asked again."""
    account = await accounts.create_account("alice")
    secret = (await accounts.keys.mint(account.id, "laptop")).secret
    principal = await accounts.authenticate(secret)
    await accounts.close()
    database.close()
    clock.advance(LIFETIME_S - 0.001)
    assert principal == await accounts.authenticate(secret)
    clock.advance(0.001)
    with pytest.raises(StoreUnavailableError, match="closed"):
        await accounts.authenticate(secret)


async def test_revoked_key_is_refused_at_once(accounts: Accounts) -> None:
    """Revoking takes effect with the next request to the same server."""
    account = await accounts.create_account("alice")
    secret = (await accounts.keys.mint(account.id, "laptop")).secret
    await accounts.authenticate(secret)
    await accounts.keys.revoke_named("laptop")
    with pytest.raises(AuthenticationError):
        await accounts.authenticate(secret)


async def test_key_revoked_elsewhere_is_refused_within_a_second(
    accounts: Accounts, clock: FrozenClock, tmp_path: Path, place: Path | str
) -> None:
    """A key revoked from the command line stops working in the server within a second."""
    account = await accounts.create_account("alice")
    secret = (await accounts.keys.mint(account.id, "laptop")).secret
    await accounts.authenticate(secret)
    with Database.open(place) as guest:
        await (await Accounts.open(guest, clock, tmp_path)).keys.revoke_named("laptop")
    clock.advance(1)
    with pytest.raises(AuthenticationError):
        await accounts.authenticate(secret)


async def test_expired_key_is_refused_to_the_millisecond(
    accounts: Accounts, clock: FrozenClock
) -> None:
    """A key works until its time and not a moment longer, remembered or not."""
    account = await accounts.create_account("alice")
    expires_at_ms = clock.now_ms() + 500
    minted = await accounts.keys.mint(account.id, "short", expires_at_ms=expires_at_ms)
    clock.advance(0.499)
    await accounts.authenticate(minted.secret)
    clock.advance(0.001)
    with pytest.raises(AuthenticationError):
        await accounts.authenticate(minted.secret)


async def test_secret_is_nowhere_in_the_ledger(
    accounts: Accounts, database: Database, place: Path | str
) -> None:
    """Whoever steals the ledger's files finds no key in them."""
    account = await accounts.create_account("alice")
    secret = (await accounts.keys.mint(account.id, "laptop")).secret
    await accounts.authenticate(secret)
    assert secret.encode() not in stored_bytes(place)
    assert b"laptop" in stored_bytes(place)


async def test_caches_are_salted_by_account(accounts: Accounts) -> None:
    """Keys of one account share cached prefixes; another account never finds them."""
    alice = await accounts.create_account("alice")
    bob = await accounts.create_account("bob")
    salts = [
        (await accounts.authenticate((await accounts.keys.mint(id_, name)).secret)).cache_salt
        for id_, name in ((alice.id, "laptop"), (alice.id, "phone"), (bob.id, "laptop"))
    ]
    assert salts[0] == salts[1] != salts[2]


async def test_last_use_is_noted_once_a_minute(accounts: Accounts, clock: FrozenClock) -> None:
    """A key's last use is known to the minute, without a write per request."""
    account = await accounts.create_account("alice")
    secret = (await accounts.keys.mint(account.id, "laptop")).secret
    noted = []
    for _ in range(4):
        await accounts.authenticate(secret)
        await accounts.close()
        (key,) = await accounts.keys.list_all()
        noted.append(key.last_used_at_ms)
        clock.advance(LAST_USED_STEP_MS / 1000 / 2)
    start_ms = noted[0]
    assert start_ms is not None
    later_ms = start_ms + LAST_USED_STEP_MS
    assert [start_ms, start_ms, later_ms, later_ms] == noted


async def test_names_are_unique_among_live_keys(accounts: Accounts) -> None:
    """Two live keys of an account never share a name; a revoked one's name is free again."""
    account = await accounts.create_account("alice")
    await accounts.keys.mint(account.id, "laptop")
    with pytest.raises(InvalidRequestError, match="laptop"):
        await accounts.keys.mint(account.id, "laptop")
    await accounts.keys.revoke_named("laptop")
    await accounts.keys.mint(account.id, "laptop")
    assert [True, False] == [
        key.revoked_at_ms is not None for key in await accounts.keys.list_all()
    ]


async def test_account_names_are_unique(accounts: Accounts) -> None:
    """A second account of a name is refused, and the message names it."""
    await accounts.create_account("alice")
    with pytest.raises(InvalidRequestError, match="alice"):
        await accounts.create_account("alice")


async def test_key_of_no_account_is_refused(accounts: Accounts) -> None:
    """A key is never made for an account that does not exist."""
    with pytest.raises(InvalidRequestError, match="does not exist"):
        await accounts.keys.mint(99, "laptop")


async def test_revoking_names_what_there_is(accounts: Accounts) -> None:
    """Who revokes an unknown or ambiguous key is told the names and ids that would be right."""
    alice = await accounts.create_account("alice")
    bob = await accounts.create_account("bob")
    for account in (alice, bob):
        await accounts.keys.mint(account.id, "laptop")
    with pytest.raises(InvalidRequestError, match=r"No live .* laptop \(id 1\), laptop \(id 2\)"):
        await accounts.keys.revoke_named("phone")
    with pytest.raises(InvalidRequestError, match="Several"):
        await accounts.keys.revoke_named("laptop")
    revoked = [
        await accounts.keys.revoke_named("2"),
        await accounts.keys.revoke_named("laptop", account_id=alice.id),
    ]
    assert [2, 1] == [key.id for key in revoked]


async def test_lost_pepper_is_a_configuration_error(
    accounts: Accounts, database: Database, clock: FrozenClock, tmp_path: Path
) -> None:
    """Without the pepper no key can be checked, so the server says so and makes no new one."""
    account = await accounts.create_account("alice")
    await accounts.keys.mint(account.id, "laptop")
    (tmp_path / "pepper").unlink()
    with pytest.raises(ConfigError, match="pepper: is missing"):
        await Accounts.open(database, clock, tmp_path)
    assert not (tmp_path / "pepper").exists()


async def test_other_pepper_is_a_configuration_error(
    accounts: Accounts, database: Database, clock: FrozenClock, tmp_path: Path
) -> None:
    """A gateway that shares the ledger but not the pepper would refuse every key, and says why."""
    home = tmp_path / "second gateway"
    with pytest.raises(ConfigError, match=r"pepper: is missing.* copy it from another gateway"):
        await Accounts.open(database, clock, home)
    Pepper.load_or_create(home / "pepper")
    with pytest.raises(ConfigError, match=r"pepper: is not the pepper .* copy it from another"):
        await Accounts.open(database, clock, home)
    shutil.copy(tmp_path / "pepper", home / "pepper")
    await Accounts.open(database, clock, home)


async def test_pepper_is_private_and_kept(
    accounts: Accounts, database: Database, clock: FrozenClock, tmp_path: Path
) -> None:
    """The pepper is made once, for its owner's eyes, and refused when others can read it."""
    pepper = tmp_path / "pepper"
    assert 0o600 == pepper.stat().st_mode & 0o777
    before = pepper.read_bytes()
    await Accounts.open(database, clock, tmp_path)
    assert before == pepper.read_bytes()
    pepper.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        await Accounts.open(database, clock, tmp_path)


async def test_another_process_makes_a_key_beside_the_server(
    accounts: Accounts, tmp_path: Path, place: Path | str
) -> None:
    """A key made by the command line while the server runs works in the server."""
    account = await accounts.create_account("alice")
    program = (
        "import asyncio, sys, pathlib\n"
        "from stillhouse.accounts.accounts import Accounts\n"
        "from stillhouse.clock import SystemClock\n"
        "from stillhouse.store.database import Database\n"
        "async def main():\n"
        "    home = pathlib.Path(sys.argv[1])\n"
        "    place = sys.argv[3] if '://' in sys.argv[3] else pathlib.Path(sys.argv[3])\n"
        "    with Database.open(place) as database:\n"
        "        accounts = await Accounts.open(database, SystemClock(), home)\n"
        "        print((await accounts.keys.mint(int(sys.argv[2]), 'cli')).secret)\n"
        "asyncio.run(main())\n"
    )
    made = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", program, str(tmp_path), str(account.id), str(place)],
        check=True,
        capture_output=True,
        text=True,
    )
    assert "cli" == (await accounts.authenticate(made.stdout.strip())).key_name


async def test_key_revoked_elsewhere_is_found(
    accounts: Accounts, clock: FrozenClock, tmp_path: Path, place: Path | str
) -> None:
    """Of many keys, those that another process has revoked are told, and no others."""
    account = await accounts.create_account("alice")
    ids = [(await accounts.keys.mint(account.id, f"key {n}")).key.id for n in range(3)]
    with Database.open(place) as guest:
        await (await Accounts.open(guest, clock, tmp_path)).keys.revoke_named("key 1")
    asked = [*ids, *range(1000, 3000)]
    assert [ids[1]] == await accounts.keys.find_revoked(asked)
    assert [] == await accounts.keys.find_revoked([ids[0], ids[2]])
