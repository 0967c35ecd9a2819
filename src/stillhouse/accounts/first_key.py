"""Creates the account and key of a new installation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stillhouse.accounts.accounts import Accounts
from stillhouse.accounts.keys import api_key
from stillhouse.accounts.keys.secret_file import create_secret_file, read_secret_file
from stillhouse.errors import ConfigError

ACCOUNT_NAME = "default"
KEY_NAME = "first-key"


@dataclass(frozen=True, slots=True)
class FirstKey:
    """
    The first key and its file.

    Args:
        is_new: Whether this start created it.

    """

    secret: str
    path: Path
    is_new: bool


async def ensure_first_key(accounts: Accounts, home: Path) -> FirstKey | None:
    """
    Creates an account and a key if there is no account yet, and stores the secret in `<home>/key`.

    The file is written first: a start that is killed between the two is completed by the next one,
    which finds the secret and no account.

    Returns:
        The key in the file; None if an operator has removed it, or has created the accounts.

    Raises:
        ConfigError: The file cannot be written, is not a key, or others can read it.
        StoreUnavailableError: The ledger cannot be written.

    """
    path = home / "key"
    is_new = False
    if not await accounts.list_accounts():
        create_secret_file(path, api_key.mint())
        secret = _read_key(path)
        assert secret is not None, f"{path} was made and is gone"
        is_new = await accounts.ensure_first_account(ACCOUNT_NAME, key_name=KEY_NAME, secret=secret)
    secret = _read_key(path)
    return FirstKey(secret, path, is_new=is_new) if secret else None


def _read_key(path: Path) -> str | None:
    secret = read_secret_file(path)
    if secret is not None and not api_key.is_well_formed(secret):
        raise ConfigError(f"{path}: is not an API key. Remove the file.")
    return secret
