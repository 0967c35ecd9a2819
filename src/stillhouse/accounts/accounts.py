"""Who may make requests, and on whose account."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from stillhouse.accounts import api_key
from stillhouse.accounts.pepper import Pepper
from stillhouse.accounts.principal_cache import Principal, PrincipalCache
from stillhouse.clock import Clock
from stillhouse.errors import (
    AuthenticationError,
    ConfigError,
    InvalidRequestError,
    StoreUnavailableError,
)
from stillhouse.store import accounts as account_rows
from stillhouse.store import keys as key_rows
from stillhouse.store.accounts import AccountRow as Account
from stillhouse.store.database import ConflictError, Connection, Database
from stillhouse.store.keys import KeyRow as ApiKey

__all__ = ["Account", "Accounts", "ApiKey", "MintedKey", "Principal"]

logger = logging.getLogger(__name__)

#: How exact a key's time of last use is; finer would cost a write per request.
LAST_USED_STEP_MS = 60_000


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
    """Accounts and their keys."""

    def __init__(self, database: Database, clock: Clock, pepper: Pepper) -> None:
        self._database = database
        self._clock = clock
        self._pepper = pepper
        self._cache = PrincipalCache()
        self._background: set[asyncio.Task[None]] = set()

    @classmethod
    async def open(cls, database: Database, clock: Clock, home: Path) -> Accounts:
        """
        Read the pepper in *home*, or make it where there are no keys yet.

        Raises:
            ConfigError: The pepper is missing though there are keys, or others can read it.
            StoreUnavailableError: The ledger cannot be read.

        """
        path = home / "pepper"
        pepper = Pepper.load(path)
        keys = [] if pepper else await database.read(key_rows.fetch_all)
        if keys:
            raise ConfigError(
                f"{path}: is missing, and without it none of the ledger's API keys can be checked. "
                "Restore it from a backup."
            )
        return cls(database, clock, pepper or Pepper.load_or_create(path))

    async def authenticate(self, secret: str | None) -> Principal:
        """
        Say on whose behalf a request with this key is made.

        Needs a query once a second per key; a revoked key is refused within that second.

        Raises:
            AuthenticationError: There is no key, or it is wrong, expired or revoked.
            StoreUnavailableError: The ledger cannot be read.

        """
        if not secret:
            raise AuthenticationError("Not authenticated")
        if not api_key.is_well_formed(secret):
            raise _wrong_key()
        key_hmac = self._pepper.key_hmac(secret)
        now_s, now_ms = self._clock.monotonic_s(), self._clock.now_ms()
        principal = self._cache.find(key_hmac, now_s=now_s, now_ms=now_ms)
        return principal or await self._look_up(key_hmac, now_s=now_s, now_ms=now_ms)

    async def create_account(self, name: str, *, is_prepaid: bool = False) -> Account:
        """
        Open an account.

        Args:
            is_prepaid: It can spend what is topped up; otherwise it pays afterwards, without limit.

        Raises:
            InvalidRequestError: An account has this name.
            StoreUnavailableError: The ledger cannot be written.

        """
        insert = partial(
            account_rows.insert_customer,
            name=name,
            created_at_ms=self._clock.now_ms(),
            is_prepaid=is_prepaid,
        )
        try:
            return await self._database.write(insert)
        except ConflictError as error:
            raise InvalidRequestError(
                f"An account named '{name}' exists already.", param="name"
            ) from error

    async def list_accounts(self) -> list[Account]:
        """Every account, oldest first."""
        return await self._database.read(account_rows.fetch_customers)

    async def create_key(
        self, account_id: int, name: str, *, expires_at_ms: int | None = None
    ) -> MintedKey:
        """
        Mint a key for an account.

        Raises:
            InvalidRequestError: The account has a live key of this name, or does not exist.
            StoreUnavailableError: The ledger cannot be written.

        """
        secret = api_key.mint()
        insert = partial(
            self._insert_key,
            account_id=account_id,
            name=name,
            secret=secret,
            expires_at_ms=expires_at_ms,
        )
        try:
            return MintedKey(secret, await self._database.write(insert))
        except ConflictError as error:
            raise InvalidRequestError(
                f"Account {account_id} has an API key named '{name}' already, or does not exist.",
                param="name",
            ) from error

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
        keys = await self._database.read(key_rows.fetch_all)
        return [key for key in keys if account_id in (None, key.account_id)]

    async def revoke_key(self, name_or_id: str, *, account_id: int | None = None) -> ApiKey:
        """
        End a key: here at once, in other processes within a second.

        Raises:
            InvalidRequestError: No live key has this name or id, or several have.
            StoreUnavailableError: The ledger cannot be written.

        """
        live = [key for key in await self.list_keys(account_id) if key.revoked_at_ms is None]
        found = [key for key in live if key.name == name_or_id] or [
            key for key in live if str(key.id) == name_or_id
        ]
        if len(found) != 1:
            names = ", ".join(f"{key.name} (id {key.id})" for key in found or live) or "none"
            number = "Several live API keys are" if found else "No live API key is"
            raise InvalidRequestError(
                f"{number} named '{name_or_id}'; there are: {names}.", param="name"
            )
        (key,) = found
        revoke = partial(key_rows.revoke, key_id=key.id, revoked_at_ms=self._clock.now_ms())
        await self._database.write(revoke)
        self._cache.forget_key(key.id)
        return key

    async def close(self) -> None:
        """Wait for times of last use that are being written; call before the database closes."""
        await asyncio.gather(*self._background)

    def _insert_key(
        self,
        connection: Connection,
        *,
        account_id: int,
        name: str,
        secret: str,
        expires_at_ms: int | None = None,
    ) -> ApiKey:
        return key_rows.insert_key(
            connection,
            account_id=account_id,
            name=name,
            prefix=api_key.shown_part(secret),
            secret_hmac=self._pepper.key_hmac(secret),
            created_at_ms=self._clock.now_ms(),
            expires_at_ms=expires_at_ms,
        )

    async def _look_up(self, key_hmac: bytes, *, now_s: float, now_ms: int) -> Principal:
        key = await self._database.read(partial(key_rows.fetch_by_hmac, secret_hmac=key_hmac))
        if key is None or key.revoked_at_ms is not None:
            raise _wrong_key()
        if key.expires_at_ms is not None and now_ms >= key.expires_at_ms:
            raise _wrong_key()
        principal = Principal(
            account_id=key.account_id,
            key_id=key.id,
            key_name=key.name,
            cache_salt=self._pepper.cache_salt(key.account_id),
        )
        # The lifetime counts from before the query, so a revocation during it is not missed.
        self._cache.store(key_hmac, principal, expires_at_ms=key.expires_at_ms, as_of_s=now_s)
        if key.last_used_at_ms is None or now_ms >= key.last_used_at_ms + LAST_USED_STEP_MS:
            self._note_use_later(key.id, now_ms)
        return principal

    def _note_use_later(self, key_id: int, now_ms: int) -> None:
        task = asyncio.create_task(self._note_use(key_id, now_ms))
        self._background.add(task)  # the event loop itself would let it go
        task.add_done_callback(self._background.discard)

    async def _note_use(self, key_id: int, now_ms: int) -> None:
        note = partial(key_rows.note_use, key_id=key_id, used_at_ms=now_ms)
        try:
            await self._database.write(note)
        except StoreUnavailableError as error:
            logger.warning("when key %d was last used is not recorded: %s", key_id, error)


def _wrong_key() -> AuthenticationError:
    """Say the same whatever is wrong, as a difference would tell which keys once existed."""
    return AuthenticationError("Invalid API key")
