from __future__ import annotations

from pathlib import Path

import pytest

from stillhouse.accounts.accounts import Accounts
from stillhouse.accounts.first_key import ensure_first_key
from stillhouse.accounts.keys import api_key
from stillhouse.clock import FrozenClock
from stillhouse.errors import ConfigError
from stillhouse.store.database import Database


async def open_accounts(database: Database, home: Path) -> Accounts:
    return await Accounts.open(database, FrozenClock(), home)


async def test_first_start_makes_a_key_and_later_ones_keep_it(tmp_path: Path) -> None:
    """The first start makes an account and a key in a private file; the next ones find it."""
    with Database.open(tmp_path / "ledger.db") as database:
        accounts = await open_accounts(database, tmp_path)
        first = await ensure_first_key(accounts, tmp_path)
        again = await ensure_first_key(await open_accounts(database, tmp_path), tmp_path)
        assert first is not None
        assert again is not None
        assert (True, False) == (first.is_new, again.is_new)
        assert first.secret == again.secret
        assert 0o600 == first.path.stat().st_mode & 0o777
        assert "first-key" == (await accounts.authenticate(first.secret)).key_name
        await accounts.close()


async def test_start_killed_halfway_is_completed(tmp_path: Path) -> None:
    """A key file without an account, as a kill between the two leaves it, becomes the first key."""
    secret = api_key.mint()
    (tmp_path / "key").touch(0o600)
    (tmp_path / "key").write_text(f"{secret}\n")
    with Database.open(tmp_path / "ledger.db") as database:
        accounts = await open_accounts(database, tmp_path)
        first = await ensure_first_key(accounts, tmp_path)
        assert first is not None
        assert secret == first.secret
        assert "first-key" == (await accounts.authenticate(secret)).key_name
        await accounts.close()


async def test_removed_key_file_stays_removed(tmp_path: Path) -> None:
    """An operator who takes the key's file away gets no new key at the next start."""
    with Database.open(tmp_path / "ledger.db") as database:
        accounts = await open_accounts(database, tmp_path)
        await ensure_first_key(accounts, tmp_path)
        (tmp_path / "key").unlink()
        assert None is await ensure_first_key(accounts, tmp_path)
        assert 1 == len(await accounts.keys.list_all())


async def test_file_of_something_else_is_refused(tmp_path: Path) -> None:
    """A file that holds no key is neither used nor overwritten."""
    (tmp_path / "key").touch(0o600)
    (tmp_path / "key").write_text("my diary\n")
    with Database.open(tmp_path / "ledger.db") as database:
        accounts = await open_accounts(database, tmp_path)
        with pytest.raises(ConfigError, match="not an API key"):
            await ensure_first_key(accounts, tmp_path)
    assert "my diary\n" == (tmp_path / "key").read_text()
