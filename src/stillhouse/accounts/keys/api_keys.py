"""Mints, finds and revokes API keys."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import partial

from stillhouse.accounts.authentication.authenticator import Authenticator
from stillhouse.accounts.config import AccountsConfig
from stillhouse.accounts.keys import api_key
from stillhouse.accounts.keys.key_sealer import KeySealer
from stillhouse.accounts.keys.pepper import Pepper
from stillhouse.accounts.keys.signing_keys import SigningKeys
from stillhouse.accounts.names import check_name
from stillhouse.clock import Clock
from stillhouse.errors import KeyNotFoundError, NameTakenError, RateLimitError, TooManyKeysError
from stillhouse.store.accounts import keys as key_rows
from stillhouse.store.accounts.keys import KeyRow as ApiKey
from stillhouse.store.database import ConflictError, Connection, Database

_MINUTE_MS = 60_000


@dataclass(frozen=True, slots=True)
class MintedKey:
    """
    A new key.

    Args:
        secret: The secret that the client sends; it cannot be shown a second time.

    """

    secret: str
    key: ApiKey


class ApiKeys:
    """
    Mints, finds and revokes API keys.

    The bounds on keys are checked in the transaction that inserts a key, so they hold over all
    gateways of a database.

    Args:
        signing_keys: Forgets a key that was made or revoked here.
        authenticator: Accepts a new key at once, and refuses a revoked one at once.

    """

    def __init__(  # noqa: PLR0913 - what a key is sealed, stored and cached with
        self,
        database: Database,
        clock: Clock,
        pepper: Pepper,
        config: AccountsConfig,
        *,
        sealer: KeySealer,
        signing_keys: SigningKeys,
        authenticator: Authenticator,
    ) -> None:
        self._database = database
        self._clock = clock
        self._pepper = pepper
        self._config = config
        self._sealer = sealer
        self._signing_keys = signing_keys
        self._authenticator = authenticator

    async def mint(
        self,
        account_id: int,
        name: str,
        *,
        expires_at_ms: int | None = None,
        allowed_models: frozenset[str] | None = None,
        is_by_customer: bool = False,
    ) -> MintedKey:
        """
        Mints a key for an account.

        Args:
            expires_at_ms: The first moment at which the key is refused; None if it never expires.
            allowed_models: Ids of the models that the key may use; None for every model.
            is_by_customer: The account itself makes the key, within its limit per minute.

        Raises:
            InvalidRequestError: The name is empty, too long or more than a line.
            NameTakenError: The account has a live key of this name, or does not exist.
            TooManyKeysError: The account has as many keys as it may have.
            RateLimitError: The account has minted as many keys as it may within the last minute.
            StoreUnavailableError: The ledger cannot be written.

        """
        check_name(name)
        secret = api_key.mint()

        def insert(connection: Connection) -> ApiKey:
            self._check_bounds(connection, account_id, is_by_customer=is_by_customer)
            return self.insert(
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
        self._authenticator.add_key(secret, account_id, name)
        return minted

    def insert(  # noqa: PLR0913 - what a key row needs
        self,
        connection: Connection,
        *,
        account_id: int,
        name: str,
        secret: str,
        expires_at_ms: int | None = None,
        allowed_models: frozenset[str] | None = None,
    ) -> ApiKey:
        """
        Inserts a key whose secret exists already, within a caller's transaction.

        Args:
            secret: From `api_key.mint`.

        """
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

    async def list_all(self, account_id: int | None = None) -> list[ApiKey]:
        """Lists every key of one account or of all, including revoked ones, oldest first."""
        return await self._database.read(partial(key_rows.fetch_keys, account_id=account_id))

    async def list_live(self, account_id: int) -> list[ApiKey]:
        """Lists an account's keys that are not revoked, oldest first."""
        return await self._database.read(partial(key_rows.fetch_live_keys, account_id=account_id))

    async def find(self, account_id: int, key_id: int) -> ApiKey:
        """
        Finds one of an account's keys, revoked or not.

        Raises:
            KeyNotFoundError: The account has no such key.

        """
        fetch = partial(key_rows.fetch_key, account_id=account_id, key_id=key_id)
        key = await self._database.read(fetch)
        if key is None:
            raise KeyNotFoundError(f"No API key has the id {key_id}.")
        return key

    async def find_live(self, name_or_id: str, *, account_id: int | None = None) -> ApiKey:
        """
        Finds the one live key of an account, or of all, that has this name, or else this id.

        Raises:
            KeyNotFoundError: No live key matches, or several do; the message names the candidates.

        """
        live = [key for key in await self.list_all(account_id) if key.revoked_at_ms is None]
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

    async def find_revoked(self, key_ids: Collection[int]) -> list[int]:
        """
        Finds which of some keys are revoked, by this process or another.

        Raises:
            StoreUnavailableError: The ledger cannot be read.

        """
        return await self._database.read(partial(key_rows.fetch_revoked, key_ids=[*key_ids]))

    async def revoke(self, key: ApiKey) -> None:
        """
        Revokes a key: here at once, in other processes within a second.

        Raises:
            StoreUnavailableError: The ledger cannot be written.

        """
        revoke = partial(key_rows.revoke, key_id=key.id, revoked_at_ms=self._clock.now_ms())
        await self._database.write(revoke)
        self._signing_keys.forget(key.account_id, key.name)
        self._authenticator.forget_key(key.id)

    async def revoke_named(self, name_or_id: str, *, account_id: int | None = None) -> ApiKey:
        """
        Revokes the live key of this name or id, and returns it.

        Raises:
            KeyNotFoundError: No live key has this name or id, or several have.
            StoreUnavailableError: The ledger cannot be written.

        """
        key = await self.find_live(name_or_id, account_id=account_id)
        await self.revoke(key)
        return key

    def _check_bounds(
        self, connection: Connection, account_id: int, *, is_by_customer: bool
    ) -> None:
        """Raises if the account has as many keys as it may, or has just minted too many."""
        now_ms, config = self._clock.now_ms(), self._config
        num_live = key_rows.count_live_keys(connection, account_id, now_ms=now_ms)
        if num_live >= config.max_keys:
            raise TooManyKeysError(
                f"The account has {num_live} API keys, and may have {config.max_keys}. "
                "Revoke some that it does not need."
            )
        if not is_by_customer:
            return
        most = config.keys_minted_per_minute
        minted_ms = key_rows.fetch_creation_times(
            connection, account_id, since_ms=now_ms - _MINUTE_MS
        )
        if len(minted_ms) >= most:
            raise RateLimitError(
                f"The account has made {most} API keys within a minute, and may not make more.",
                retry_after_s=(minted_ms[-most] + _MINUTE_MS - now_ms) / 1000,
            )
