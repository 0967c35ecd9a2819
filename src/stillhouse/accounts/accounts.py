"""Accounts: opens and finds them, and authenticates the keys and tokens that spend their money."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from stillhouse.accounts.authentication.auth_failures import AuthFailures
from stillhouse.accounts.authentication.authenticator import Authenticator
from stillhouse.accounts.authentication.principal_cache import Principal
from stillhouse.accounts.authentication.scopes import Bounds, Scope, Scopes
from stillhouse.accounts.config import AccountsConfig
from stillhouse.accounts.keys.api_keys import ApiKeys, MintedKey
from stillhouse.accounts.keys.key_sealer import KeySealer
from stillhouse.accounts.keys.pepper import Pepper
from stillhouse.accounts.keys.signing_keys import SigningKeys
from stillhouse.accounts.names import MAX_NAME_LENGTH, check_name
from stillhouse.clock import Clock
from stillhouse.errors import ConfigError, InvalidRequestError, NameTakenError
from stillhouse.store.accounts import accounts as account_rows
from stillhouse.store.accounts import keys as key_rows
from stillhouse.store.accounts import pepper as pepper_row
from stillhouse.store.accounts.accounts import AccountRow as Account
from stillhouse.store.accounts.keys import KeyRow as ApiKey
from stillhouse.store.database import ConflictError, Connection, Database

__all__ = [
    "MAX_NAME_LENGTH",
    "Account",
    "Accounts",
    "ApiKey",
    "Bounds",
    "MintedKey",
    "Principal",
    "Scope",
]


class Accounts:
    """
    Opens and finds accounts, and authenticates requests.

    Attributes:
        keys: The accounts' API keys.
        scopes: The narrower rights of the tokens that are signed with the keys.

    """

    def __init__(
        self, database: Database, clock: Clock, pepper: Pepper, config: AccountsConfig | None = None
    ) -> None:
        config = config or AccountsConfig()
        self._database = database
        self._clock = clock
        sealer = KeySealer(pepper)
        signing_keys = SigningKeys(database, clock, sealer)
        self.scopes = Scopes(database, clock, signing_keys)
        self._authenticator = Authenticator(
            database,
            clock,
            pepper,
            scopes=self.scopes,
            failures=AuthFailures(config.auth_failures_per_minute, clock),
        )
        self.keys = ApiKeys(
            database,
            clock,
            pepper,
            config,
            sealer=sealer,
            signing_keys=signing_keys,
            authenticator=self._authenticator,
        )

    @classmethod
    async def open(
        cls, database: Database, clock: Clock, home: Path, config: AccountsConfig | None = None
    ) -> Accounts:
        """
        Reads the pepper in *home*, or creates it if the ledger has none yet.

        Raises:
            ConfigError: The pepper is missing, differs from the one that the ledger's keys were
                made with, or can be read by others.
            StoreUnavailableError: The ledger cannot be used.

        """
        path = home / "pepper"
        pepper = Pepper.load(path)
        known = await database.read(pepper_row.fetch_fingerprint)
        has_keys = known is not None or bool(await database.read(key_rows.fetch_keys))
        if pepper is None and has_keys:
            raise ConfigError(
                f"{path}: is missing, and without it none of the ledger's API keys can be checked. "
                "Restore it from a backup, or copy it from another gateway on the same ledger."
            )
        pepper = pepper or Pepper.load_or_create(path)
        fingerprint = pepper.fingerprint()
        if known is None:
            ensure = partial(pepper_row.ensure_fingerprint, fingerprint=fingerprint)
            known = await database.write(ensure)
        if known != fingerprint:
            raise ConfigError(
                f"{path}: is not the pepper that the ledger's API keys were made with. "
                "Restore it from a backup, or copy it from another gateway on the same ledger."
            )
        return cls(database, clock, pepper, config)

    async def authenticate(self, secret: str | None, address: str = "") -> Principal:
        """
        Returns the principal that a key, or a token signed with a key, speaks for.

        Args:
            address: The client's.

        Raises:
            AuthenticationError: The key is missing, wrong, expired or revoked.
            RateLimitError: In addition, too many authentications failed from this address or with
                tokens of this key.
            StoreUnavailableError: The ledger cannot be read.

        """
        return await self._authenticator.authenticate(secret, address)

    async def create_account(self, name: str, *, is_prepaid: bool = False) -> Account:
        """
        Opens an account.

        Args:
            is_prepaid: The account spends what is topped up; otherwise it is invoiced afterwards,
                without limit.

        Raises:
            InvalidRequestError: The name is empty, too long or more than a line.
            NameTakenError: An account has this name.
            StoreUnavailableError: The ledger cannot be written.

        """
        check_name(name)
        insert = partial(
            account_rows.insert_customer,
            name=name,
            created_at_ms=self._clock.now_ms(),
            is_prepaid=is_prepaid,
        )
        try:
            return await self._database.write(insert)
        except ConflictError as error:
            raise NameTakenError(
                f"An account named '{name}' exists already.", param="name"
            ) from error

    async def ensure_first_account(self, name: str, *, key_name: str, secret: str) -> bool:
        """
        Opens an account with a key whose secret exists already, unless there is any account.

        Args:
            secret: From `api_key.mint`.

        Returns:
            Whether this call opened it.

        """

        def open_first(connection: Connection) -> bool:
            if account_rows.fetch_customers(connection):
                return False
            account = account_rows.insert_customer(
                connection, name=name, created_at_ms=self._clock.now_ms()
            )
            self.keys.insert(connection, account_id=account.id, name=key_name, secret=secret)
            return True

        return await self._database.write(open_first)

    async def list_accounts(self) -> list[Account]:
        """Lists every account, oldest first."""
        return await self._database.read(account_rows.fetch_customers)

    async def find_account(self, name_or_id: str | int) -> Account:
        """
        Finds an account by its name, or by its number.

        Raises:
            InvalidRequestError: No account matches; the message names the accounts there are.

        """
        accounts = await self.list_accounts()
        found = [account for account in accounts if name_or_id in (account.name, account.id)]
        if not found:
            names = ", ".join(account.name for account in accounts) or "none"
            raise InvalidRequestError(
                f"No account is named '{name_or_id}'; there are: {names}.", param="account"
            )
        return found[0]

    async def close(self) -> None:
        """Waits for pending writes about keys; call before the database closes."""
        await self._authenticator.close()
