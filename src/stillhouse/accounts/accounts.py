"""Who may make requests, and on whose account."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from stillhouse.accounts.authentication.auth_failures import AuthFailures
from stillhouse.accounts.authentication.authenticator import Authenticator
from stillhouse.accounts.authentication.principal_cache import Principal
from stillhouse.accounts.authentication.scopes import Bounds, Scope, Scopes
from stillhouse.accounts.config import AccountsConfig
from stillhouse.accounts.keys import api_key
from stillhouse.accounts.keys.key_sealer import KeySealer
from stillhouse.accounts.keys.pepper import Pepper
from stillhouse.accounts.keys.signing_keys import SigningKeys
from stillhouse.clock import Clock
from stillhouse.errors import (
    ConfigError,
    InvalidRequestError,
    KeyNotFoundError,
    NameTakenError,
    RateLimitError,
    TooManyKeysError,
)
from stillhouse.store.accounts import accounts as account_rows
from stillhouse.store.accounts import keys as key_rows
from stillhouse.store.accounts import pepper as pepper_row
from stillhouse.store.accounts.accounts import AccountRow as Account
from stillhouse.store.accounts.keys import KeyRow as ApiKey
from stillhouse.store.database import ConflictError, Connection, Database

__all__ = ["Account", "Accounts", "ApiKey", "Bounds", "MintedKey", "Principal", "Scope"]

MAX_NAME_LENGTH = 100

_MINUTE_MS = 60_000


@dataclass(frozen=True, slots=True)
class MintedKey:
    """
    A new key.

    Args:
        secret: What the client sends. Nobody can show it again.

    """

    secret: str
    key: ApiKey


class Accounts:
    """
    Accounts and their keys.

    Attributes:
        scopes: What tokens signed with the keys may do.

    """

    def __init__(
        self, database: Database, clock: Clock, pepper: Pepper, rules: AccountsConfig | None = None
    ) -> None:
        self._rules = rules = rules or AccountsConfig()
        self._database = database
        self._clock = clock
        self._pepper = pepper
        self._sealer = KeySealer(pepper)
        self._signing_keys = SigningKeys(database, clock, self._sealer)
        self.scopes = Scopes(database, clock, self._signing_keys)
        self._authenticator = Authenticator(
            database,
            clock,
            pepper,
            scopes=self.scopes,
            failures=AuthFailures(rules.auth_failures_per_minute, clock),
        )

    @classmethod
    async def open(
        cls, database: Database, clock: Clock, home: Path, rules: AccountsConfig | None = None
    ) -> Accounts:
        """
        Read the pepper in *home*, or make it where the ledger has none yet.

        Raises:
            ConfigError: The pepper is missing or another than the ledger's keys were made with, or
                others can read it.
            StoreUnavailableError: The ledger cannot be used.

        """
        path = home / "pepper"
        pepper = Pepper.load(path)
        known = await database.read(pepper_row.fetch_fingerprint)
        has_keys = known is not None or bool(await database.read(key_rows.fetch_all))
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
        return cls(database, clock, pepper, rules)

    async def authenticate(self, secret: str | None, address: str = "") -> Principal:
        """
        Say on whose behalf a request with this key, or token signed with a key, is made.

        Raises:
            AuthenticationError: There is no key, or it is wrong, expired or revoked.
            RateLimitError: And too many from this address, or of this key's tokens, were.
            StoreUnavailableError: The ledger cannot be read.

        """
        return await self._authenticator.authenticate(secret, address)

    async def create_account(self, name: str, *, is_prepaid: bool = False) -> Account:
        """
        Open an account.

        Args:
            is_prepaid: It can spend what is topped up; otherwise it pays afterwards, without limit.

        Raises:
            InvalidRequestError: The name is empty, too long or more than a line.
            NameTakenError: An account has this name.
            StoreUnavailableError: The ledger cannot be written.

        """
        _check_name(name)
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

    async def list_accounts(self) -> list[Account]:
        """Every account, oldest first."""
        return await self._database.read(account_rows.fetch_customers)

    async def create_key(
        self,
        account_id: int,
        name: str,
        *,
        expires_at_ms: int | None = None,
        allowed_models: frozenset[str] | None = None,
        is_by_customer: bool = False,
    ) -> MintedKey:
        """
        Mint a key for an account.

        Args:
            expires_at_ms: The first moment at which the key is refused; None when it never is.
            allowed_models: Ids of the models that the key may use; None when every model is.
            is_by_customer: The account itself makes it, within its limit per minute.

        Raises:
            InvalidRequestError: The name is empty, too long or more than a line.
            NameTakenError: The account has a live key of this name, or does not exist.
            TooManyKeysError: The account has as many keys as it may have.
            RateLimitError: It has made as many as it may within the last minute.
            StoreUnavailableError: The ledger cannot be written.

        """
        _check_name(name)
        secret = api_key.mint()

        def insert(connection: Connection) -> ApiKey:
            self._refuse_too_many_keys(connection, account_id, is_by_customer=is_by_customer)
            return self._insert_key(
                connection,
                account_id=account_id,
                name=name,
                secret=secret,
                expires_at_ms=expires_at_ms,
                allowed_models=allowed_models,
            )

        try:
            minted = MintedKey(secret, await self._database.write(insert))
        except ConflictError as error:
            raise NameTakenError(
                f"An API key named '{name}' exists already, or the account does not exist.",
                param="name",
            ) from error
        self._signing_keys.forget(account_id, name)
        self._authenticator.knows_key(secret, account_id, name)
        return minted

    async def ensure_first_account(self, name: str, *, key_name: str, secret: str) -> bool:
        """
        Open an account with a key whose secret exists already, unless there is any account.

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
            self._insert_key(connection, account_id=account.id, name=key_name, secret=secret)
            return True

        return await self._database.write(open_first)

    async def list_keys(self, account_id: int | None = None) -> list[ApiKey]:
        """Every key of one account or of all, revoked ones among them, oldest first."""
        return await self._database.read(partial(key_rows.fetch_all, account_id=account_id))

    async def list_live_keys(self, account_id: int) -> list[ApiKey]:
        """An account's keys that are not revoked, oldest first."""
        return await self._database.read(partial(key_rows.fetch_live, account_id=account_id))

    async def find_account(self, name_or_id: str | int) -> Account:
        """
        An account by its name, or by its number.

        Raises:
            InvalidRequestError: There is none; the message says which there are.

        """
        accounts = await self.list_accounts()
        found = [account for account in accounts if name_or_id in (account.name, account.id)]
        if not found:
            names = ", ".join(account.name for account in accounts) or "none"
            raise InvalidRequestError(
                f"No account is named '{name_or_id}'; there are: {names}.", param="account"
            )
        return found[0]

    async def find_key(self, account_id: int, key_id: int) -> ApiKey:
        """
        One of an account's keys, revoked or not.

        Raises:
            KeyNotFoundError: The account has no such key.

        """
        fetch = partial(key_rows.fetch_one, account_id=account_id, key_id=key_id)
        key = await self._database.read(fetch)
        if key is None:
            raise KeyNotFoundError(f"No API key has the id {key_id}.")
        return key

    async def find_live_key(self, name_or_id: str, *, account_id: int | None = None) -> ApiKey:
        """
        The one live key of an account, or of all, that has this name, or else this id.

        Raises:
            KeyNotFoundError: There is none, or several; the message names those there are.

        """
        live = [key for key in await self.list_keys(account_id) if key.revoked_at_ms is None]
        found = [key for key in live if key.name == name_or_id] or [
            key for key in live if str(key.id) == name_or_id
        ]
        if len(found) != 1:
            names = ", ".join(f"{key.name} (id {key.id})" for key in found or live) or "none"
            number = "Several live API keys are" if found else "No live API key is"
            raise KeyNotFoundError(
                f"{number} named '{name_or_id}'; there are: {names}.", param="name"
            )
        return found[0]

    async def revoke_key(self, name_or_id: str, *, account_id: int | None = None) -> ApiKey:
        """
        End a key by its name or id: here at once, in other processes within a second.

        Raises:
            KeyNotFoundError: No live key has this name or id, or several have.
            StoreUnavailableError: The ledger cannot be written.

        """
        key = await self.find_live_key(name_or_id, account_id=account_id)
        await self.revoke(key)
        return key

    async def find_revoked(self, key_ids: Collection[int]) -> list[int]:
        """
        Which of some keys are revoked, by this process or another.

        Raises:
            StoreUnavailableError: The ledger cannot be read.

        """
        return await self._database.read(partial(key_rows.fetch_revoked, key_ids=[*key_ids]))

    async def revoke(self, key: ApiKey) -> None:
        """
        End a key: here at once, in other processes within a second.

        Raises:
            StoreUnavailableError: The ledger cannot be written.

        """
        revoke = partial(key_rows.revoke, key_id=key.id, revoked_at_ms=self._clock.now_ms())
        await self._database.write(revoke)
        self._signing_keys.forget(key.account_id, key.name)
        self._authenticator.forget_key(key.id)

    async def close(self) -> None:
        """Wait for what is being written about keys; call before the database closes."""
        await self._authenticator.close()

    def _refuse_too_many_keys(
        self, connection: Connection, account_id: int, *, is_by_customer: bool
    ) -> None:
        """Counted in the transaction that makes the key, so the bounds hold over all gateways."""
        now_ms, rules = self._clock.now_ms(), self._rules
        num_live = key_rows.count_live(connection, account_id, now_ms=now_ms)
        if num_live >= rules.max_keys:
            raise TooManyKeysError(
                f"The account has {num_live} API keys, and may have {rules.max_keys}. "
                "Revoke some that it does not need."
            )
        if not is_by_customer:
            return
        most = rules.keys_minted_per_minute
        made_ms = key_rows.fetch_times_since(connection, account_id, since_ms=now_ms - _MINUTE_MS)
        if len(made_ms) >= most:
            raise RateLimitError(
                f"The account has made {most} API keys within a minute, and may not make more.",
                retry_after_s=(made_ms[-most] + _MINUTE_MS - now_ms) / 1000,
            )

    def _insert_key(  # noqa: PLR0913 - what a key row needs
        self,
        connection: Connection,
        *,
        account_id: int,
        name: str,
        secret: str,
        expires_at_ms: int | None = None,
        allowed_models: frozenset[str] | None = None,
    ) -> ApiKey:
        return key_rows.insert_key(
            connection,
            account_id=account_id,
            name=name,
            prefix=api_key.shown_part(secret),
            secret_hmac=self._pepper.key_hmac(secret),
            sealed_secret=self._sealer.seal(secret),
            created_at_ms=self._clock.now_ms(),
            expires_at_ms=expires_at_ms,
            allowed_models=allowed_models,
        )


def _check_name(name: str) -> None:
    """A name is shown in tables and signed in tokens."""
    if not 0 < len(name) <= MAX_NAME_LENGTH or not name.isprintable():
        raise InvalidRequestError(
            f"A name is a line of 1 to {MAX_NAME_LENGTH} characters.", param="name"
        )
