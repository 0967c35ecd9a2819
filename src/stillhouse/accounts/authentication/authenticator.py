"""Authenticates requests: maps a key or scoped token to its principal, cheapest checks first."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from functools import partial

import structlog

from stillhouse.accounts.authentication import scoped_token
from stillhouse.accounts.authentication.auth_failures import AuthFailures
from stillhouse.accounts.authentication.principal_cache import Principal, PrincipalCache
from stillhouse.accounts.authentication.scoped_token import ForgedTokenError, UnsealedKeyError
from stillhouse.accounts.authentication.scopes import Bounds, Scope, Scopes, VerifiedToken
from stillhouse.accounts.keys import api_key
from stillhouse.accounts.keys.key_index import KeyIndex
from stillhouse.accounts.keys.key_sealer import KeySealer
from stillhouse.accounts.keys.pepper import Pepper
from stillhouse.clock import Clock
from stillhouse.errors import AuthenticationError, StoreUnavailableError
from stillhouse.store.accounts import keys as key_rows
from stillhouse.store.accounts.keys import KeyRow, StoredKey
from stillhouse.store.database import Connection, Database

log = structlog.get_logger()

#: The precision of a key's time of last use; a finer one would cost a write per request.
LAST_USED_STEP_MS = 60_000

#: The most tokens whose verified signature is remembered; the least recently used is dropped.
MAX_VERIFIED_TOKENS = 10_000

#: The most keys whose last use waits to be written.
_MAX_NOTED = 10_000


class Authenticator:
    """
    Maps keys and scoped tokens to principals.

    A failure never writes to the ledger; a failure that cost a query or a signature is counted.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        pepper: Pepper,
        *,
        scopes: Scopes,
        failures: AuthFailures,
    ) -> None:
        self._database = database
        self._clock = clock
        self._pepper = pepper
        self._sealer = KeySealer(pepper)
        self._scopes = scopes
        self._failures = failures
        self._index = KeyIndex(database, clock)
        self._cache = PrincipalCache()
        self._verified: OrderedDict[bytes, VerifiedToken] = OrderedDict()
        self._noted_ms: dict[int, int] = {}
        self._background: set[asyncio.Task[None]] = set()

    async def authenticate(self, secret: str | None, address: str = "") -> Principal:
        """
        Returns the principal of a key, or of a token signed with a key.

        This queries the ledger once a second per key; a revoked key is refused within that second.

        Args:
            address: The client's.

        Raises:
            AuthenticationError: The key is missing, wrong, expired or revoked.
            RateLimitError: In addition, too many authentications failed from this address or with
                tokens of this key.
            StoreUnavailableError: The ledger cannot be read.

        """
        if not secret:
            raise AuthenticationError("Not authenticated")
        if len(secret) > len(scoped_token.PREFIX) + scoped_token.MAX_LENGTH:
            raise scoped_token.wrong_token() if _is_token(secret) else _wrong_key()
        secret_hmac = self._pepper.key_hmac(secret)
        now_s, now_ms = self._clock.monotonic_s(), self._clock.now_ms()
        principal = self._cache.find(secret_hmac, now_s=now_s, now_ms=now_ms)
        if principal is None:
            if _is_token(secret):
                scope = await self._scope_of_token(secret, secret_hmac, address)
            else:
                scope = await self._scope_of_key(secret, secret_hmac, address)
            principal = self._principal(scope)
            # The lifetime counts from before the query, so a revocation during it is not missed.
            expires_at_ms = scope.bounds.expires_at_ms
            self._cache.store(secret_hmac, principal, expires_at_ms=expires_at_ms, as_of_s=now_s)
        return principal

    def add_key(self, secret: str, account_id: int, name: str) -> None:
        """Indexes a key that was just minted, so that it works at once, from any address."""
        self._index.add(self._pepper.key_hmac(secret), account_id, name)

    def forget_key(self, key_id: int) -> None:
        """Drops a key from the cache, so that its next request reads the ledger."""
        self._cache.forget_key(key_id)

    async def close(self) -> None:
        """Waits for pending writes about keys; call before the database closes."""
        await asyncio.gather(*self._background)

    async def _scope_of_key(self, secret: str, secret_hmac: bytes, address: str) -> Scope:
        """Returns the scope of the key itself, which is the widest of its scopes."""
        if not api_key.is_well_formed(secret):
            raise _wrong_key()
        if self._failures.is_over(address) and not await self._index.has_secret(secret_hmac):
            raise self._failures.refusal(address)
        stored = await self._database.read(partial(key_rows.fetch_by_hmac, secret_hmac=secret_hmac))
        if stored is None or not self._is_live(stored.key):
            self._index.forget_secret(secret_hmac)
            raise self._failures.count(_wrong_key(), address)
        self._note_use_of(stored.key, stored=stored, secret=secret)
        return Scope(None, stored.key, Bounds().within(stored.key))

    async def _scope_of_token(self, secret: str, secret_hmac: bytes, address: str) -> Scope:
        verified = self._verified.get(secret_hmac)
        if verified is None:
            verified = await self._verify(secret, address)
            self._verified[secret_hmac] = verified
            while len(self._verified) > MAX_VERIFIED_TOKENS:
                self._verified.popitem(last=False)
        self._verified.move_to_end(secret_hmac)
        try:
            scope = await self._scopes.scope_of(verified)
        except AuthenticationError:
            self._verified.pop(secret_hmac, None)
            raise
        self._note_use_of(scope.key)
        return scope

    async def _verify(self, secret: str, address: str) -> VerifiedToken:
        token = scoped_token.parse(secret, now_ms=self._clock.now_ms())
        if self._failures.is_over(address) and not await self._index.has_name(
            token.account_id, token.key_name
        ):
            raise self._failures.refusal(address)
        try:
            # Checked however many have failed: that takes microseconds, and the next may be right.
            return await self._scopes.verify(token)
        except UnsealedKeyError:  # not the sender's fault
            raise
        except ForgedTokenError as error:
            raise self._failures.count(error, address, key_id=error.key_id) from error
        except AuthenticationError as error:
            raise self._failures.count(error, address) from error

    def _is_live(self, key: KeyRow) -> bool:
        has_expired = key.expires_at_ms is not None and self._clock.now_ms() >= key.expires_at_ms
        return key.revoked_at_ms is None and not has_expired

    def _principal(self, scope: Scope) -> Principal:
        return Principal(
            account_id=scope.key.account_id,
            key_id=scope.key.id,
            key_name=scope.key.name,
            cache_salt=self._pepper.cache_salt(scope.key.account_id),
            allowed_models=scope.bounds.allowed_models,
            scope=scope.token,
        )

    def _note_use_of(
        self, key: KeyRow, *, stored: StoredKey | None = None, secret: str | None = None
    ) -> None:
        """Stores a key's last use, and seals the secret of a key that has none."""
        now_ms = self._clock.now_ms()
        sealed = None
        if stored is not None and secret is not None and stored.sealed_secret is None:
            sealed = self._sealer.seal(secret)
        last_ms = max(self._noted_ms.get(key.id, 0), key.last_used_at_ms or 0)
        if sealed is None and now_ms < last_ms + LAST_USED_STEP_MS:
            return
        if len(self._noted_ms) >= _MAX_NOTED:
            self._noted_ms.clear()
        self._noted_ms[key.id] = now_ms
        task = asyncio.create_task(self._note_use(key.id, now_ms, sealed))
        self._background.add(task)  # the event loop itself would let it go
        task.add_done_callback(self._background.discard)

    async def _note_use(self, key_id: int, now_ms: int, sealed: bytes | None) -> None:
        def note(connection: Connection) -> None:
            key_rows.note_use(connection, key_id, used_at_ms=now_ms)
            if sealed is not None:
                key_rows.keep_sealed(connection, key_id, sealed_secret=sealed)

        try:
            await self._database.write(note)
        except StoreUnavailableError as error:
            log.warning("key_use_not_recorded", key_id=key_id, reason=str(error))


def _is_token(secret: str) -> bool:
    return secret.startswith(scoped_token.PREFIX)


def _wrong_key() -> AuthenticationError:
    """Returns the same error for every fault; a difference would tell which keys once existed."""
    # OpenAI's own words, by which litellm tells this from other refusals.
    return AuthenticationError("Incorrect API key provided")
