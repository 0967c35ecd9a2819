"""Holds the admin key: the operator's credential, which belongs to no account."""

from __future__ import annotations

import hmac
from pathlib import Path

from stillhouse.accounts.keys import api_key
from stillhouse.accounts.keys.secret_file import create_secret_file, read_secret_file
from stillhouse.errors import ConfigError

#: Distinguishes it from API keys, which have no second underscore.
_PREFIX = "sh_admin_"


class AdminKey:
    """Authenticates the operator."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()

    @classmethod
    def load_or_create(cls, path: Path) -> AdminKey:
        """
        Reads the admin key; creates it if its file is missing.

        Raises:
            ConfigError: The file is no admin key or cannot be written, or others can read it.

        """
        create_secret_file(path, api_key.mint().replace(api_key.PREFIX, _PREFIX, 1))
        secret = read_secret_file(path)
        body = secret and secret.removeprefix(_PREFIX)
        if not secret or body == secret or not api_key.is_well_formed(f"{api_key.PREFIX}{body}"):
            raise ConfigError(f"{path}: is not an admin key. Remove the file; the start makes one.")
        return cls(secret)

    def is_equal(self, secret: str | None) -> bool:
        """Returns whether *secret* is the admin key; takes constant time."""
        return secret is not None and hmac.compare_digest(secret.encode(), self._secret)
