"""Scopes: what a signed token may do with the API key that signed it, and never more than that."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from functools import partial

from stillhouse.accounts import scoped_token
from stillhouse.accounts.pepper import Pepper
from stillhouse.accounts.scoped_token import Claims, UnverifiedToken
from stillhouse.clock import Clock
from stillhouse.errors import InvalidRequestError, KeyNotFoundError
from stillhouse.money import usd
from stillhouse.store import keys as key_rows
from stillhouse.store import scopes as scope_rows
from stillhouse.store.database import ConflictError, Connection, Database
from stillhouse.store.keys import KeyRow, SigningKey
from stillhouse.store.scopes import ScopeRow

YEAR_MS = 365 * 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class Bounds:
    """
    How far a scope reaches.

    Args:
        allowed_models: None when every model is.
        expires_at_ms: The first moment at which it is refused; None when it never is.
        limit_picousd: What it may spend in total; None when only its key and account limit it.

    """

    allowed_models: frozenset[str] | None = None
    expires_at_ms: int | None = None
    limit_picousd: int | None = None

    def within(self, key: KeyRow) -> Bounds:
        """These bounds where the key's own are wider, the key's where they are narrower."""
        models = [m for m in (self.allowed_models, key.allowed_models) if m is not None]
        ends = [end for end in (self.expires_at_ms, key.expires_at_ms) if end is not None]
        return Bounds(
            allowed_models=frozenset.intersection(*models) if models else None,
            expires_at_ms=min(ends, default=None),
            limit_picousd=self.limit_picousd,
        )


@dataclass(frozen=True, slots=True)
class Scope:
    """
    What a token may do with the key that signed it.

    Args:
        id: None for the key itself, the widest of its scopes.
        bounds: Within the key's own.

    """

    id: int | None
    key: KeyRow
    bounds: Bounds


class Scopes:
    """The scopes of every key."""

    def __init__(self, database: Database, clock: Clock, pepper: Pepper) -> None:
        self._database = database
        self._clock = clock
        self._pepper = pepper

    async def mint(self, account_id: int, key_name: str, asked: Bounds) -> str:
        """
        Sign a token with one of an account's keys; what *asked* leaves open is the key's own.

        Raises:
            KeyNotFoundError: The account has no live key of this name.
            InvalidRequestError: More is asked for than the key may do itself.
            StoreUnavailableError: The ledger cannot be written.

        """
        find = partial(key_rows.fetch_signing_key, account_id=account_id, name=key_name)
        signing_key = await self._database.read(find)
        state = self._state_of(signing_key)
        if signing_key is None or state is None:
            raise KeyNotFoundError(f"No live API key is named '{key_name}'.", param="api_key_name")
        bounds = self._checked(asked, signing_key.key)
        assert bounds.expires_at_ms is not None, "a token's life is a year where nothing is asked"
        claims = Claims(
            sub=scoped_token.account_uid(account_id),
            exp=bounds.expires_at_ms // 1000,
            models=None if bounds.allowed_models is None else sorted(bounds.allowed_models),
            spending_limit=None if bounds.limit_picousd is None else usd(bounds.limit_picousd),
            jti=secrets.token_urlsafe(12),
        )
        token = scoped_token.sign(claims, account_id=account_id, key_name=key_name, state=state)
        if len(token) > scoped_token.MAX_LENGTH:
            raise InvalidRequestError("A token cannot name so many models.", param="models")
        await self._ensure_row(scoped_token.parse(token), signing_key.key, bounds.limit_picousd)
        return token

    async def find(self, token: UnverifiedToken) -> Scope:
        """
        The scope of a token that is signed by a live key and is valid now.

        Its first use here inserts it, for most tokens are signed elsewhere.

        Raises:
            AuthenticationError: The token is wrong or has expired.
            StoreUnavailableError: The ledger cannot be read, or at first use cannot be written.

        """

        def look(connection: Connection) -> tuple[SigningKey | None, ScopeRow | None]:
            key = key_rows.fetch_signing_key(connection, token.account_id, token.key_name)
            return key, scope_rows.fetch_by_fingerprint(connection, token.fingerprint)

        signing_key, row = await self._database.read(look)
        state = self._state_of(signing_key)
        if signing_key is None or state is None:
            raise scoped_token.wrong_token()
        claims = token.claims(state, now_ms=self._clock.now_ms())
        key = signing_key.key
        row = row or await self._ensure_row(token, key, claims.limit_picousd)
        asked = Bounds(claims.allowed_models, int(claims.exp * 1000), row.limit_picousd)
        return Scope(row.id, key, asked.within(key))

    def _state_of(self, signing_key: SigningKey | None) -> bytes | None:
        """The state to check signatures with, unless the key has none or has expired."""
        if signing_key is None or signing_key.sealed_state is None:
            return None
        expires_at_ms = signing_key.key.expires_at_ms
        if expires_at_ms is not None and self._clock.now_ms() >= expires_at_ms:
            return None
        return self._pepper.mask(signing_key.secret_hmac, signing_key.sealed_state)

    def _checked(self, asked: Bounds, key: KeyRow) -> Bounds:
        now_ms = self._clock.now_ms()
        within = asked.within(key)
        if asked.allowed_models is not None and asked.allowed_models != within.allowed_models:
            more = ", ".join(sorted(asked.allowed_models - (within.allowed_models or frozenset())))
            raise InvalidRequestError(f"The API key may not use {more}.", param="models")
        if asked.expires_at_ms is None:
            year = Bounds(within.allowed_models, now_ms + YEAR_MS, within.limit_picousd)
            return year.within(key)
        if asked.expires_at_ms != within.expires_at_ms:
            raise InvalidRequestError("The API key expires before that.", param="expires_at")
        if not now_ms < asked.expires_at_ms < scoped_token.END_OF_TIME_S * 1000:
            raise InvalidRequestError("A token expires in the future.", param="expires_at")
        return within

    async def _ensure_row(
        self, token: UnverifiedToken, key: KeyRow, limit_picousd: int | None
    ) -> ScopeRow:
        ensure = partial(
            scope_rows.ensure,
            fingerprint=token.fingerprint,
            key_id=key.id,
            limit_picousd=limit_picousd,
            created_at_ms=self._clock.now_ms(),
        )
        try:
            return await self._database.write(ensure)
        except ConflictError:  # another gateway has inserted it at the same moment
            return await self._database.write(ensure)
