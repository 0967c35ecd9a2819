"""Scopes: the rights of signed tokens, which never exceed those of the key that signed them."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from functools import partial

from stillhouse.accounts.authentication import scoped_token
from stillhouse.accounts.authentication.scoped_token import (
    ForgedTokenError,
    TokenClaims,
    UnsealedKeyError,
    UnverifiedToken,
)
from stillhouse.accounts.keys.signing_keys import SigningKeys
from stillhouse.clock import Clock
from stillhouse.errors import InvalidRequestError, KeyNotFoundError
from stillhouse.money import usd
from stillhouse.store.accounts import scopes as scope_rows
from stillhouse.store.accounts.keys import KeyRow
from stillhouse.store.accounts.scopes import TokenScope
from stillhouse.store.database import Database

YEAR_MS = 365 * 24 * 3600 * 1000

#: The time that a scope is kept after its token's end, for late requests and slow clocks.
GRACE_MS = 24 * 3600 * 1000

#: Rows that are deleted in one transaction; other writes wait for its end.
PURGE_BATCH = 500


@dataclass(frozen=True, slots=True)
class Bounds:
    """
    The bounds of a scope.

    Args:
        allowed_models: None for every model.
        expires_at_ms: The first moment at which it is refused; None if it never expires.
        limit_picousd: The most it may spend in total; None if only its key and account limit it.

    """

    allowed_models: frozenset[str] | None = None
    expires_at_ms: int | None = None
    limit_picousd: int | None = None

    def within(self, key: KeyRow) -> Bounds:
        """Returns the narrower of these bounds and the key's, for each bound."""
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
    The rights of a token, within those of the key that signed it.

    Args:
        token: None for the key itself, the widest of its scopes.
        bounds: Within the key's own.

    """

    token: TokenScope | None
    key: KeyRow
    bounds: Bounds


@dataclass(frozen=True, slots=True)
class VerifiedToken:
    """
    A token whose signature was checked; each use must check that its key is still live.

    Args:
        requested: The bounds that the token states.

    """

    account_id: int
    key_name: str
    key_id: int
    requested: Bounds
    scope: TokenScope


class Scopes:
    """Mints, verifies and purges scoped tokens."""

    def __init__(self, database: Database, clock: Clock, signing_keys: SigningKeys) -> None:
        self._database = database
        self._clock = clock
        self._signing_keys = signing_keys

    async def mint(self, account_id: int, key_name: str, requested: Bounds) -> str:
        """
        Signs a token with one of an account's keys; what *requested* leaves open is the key's own.

        Nothing is written: a token is a row from the first request that it pays for.

        Raises:
            KeyNotFoundError: The account has no live key of this name.
            InvalidRequestError: The requested rights exceed the key's own.
            StoreUnavailableError: The ledger cannot be read.

        """
        found = await self._signing_keys.find(account_id, key_name)
        if found is None:
            raise KeyNotFoundError(f"No live API key is named '{key_name}'.", param="api_key_name")
        if found.secret is None:
            raise InvalidRequestError(_not_sealed(key_name), param="api_key_name")
        bounds = self._checked(requested, found.key)
        assert bounds.expires_at_ms is not None, (
            "a token's life is a year where nothing is requested"
        )
        claims = TokenClaims(
            sub=scoped_token.account_uid(account_id),
            exp=bounds.expires_at_ms // 1000,
            models=None if bounds.allowed_models is None else sorted(bounds.allowed_models),
            spending_limit=None if bounds.limit_picousd is None else usd(bounds.limit_picousd),
            jti=secrets.token_urlsafe(12),
        )
        token = scoped_token.sign(
            claims, account_id=account_id, key_name=key_name, secret=found.secret
        )
        if len(token) > scoped_token.MAX_LENGTH:
            raise InvalidRequestError("A token cannot name so many models.", param="models")
        return token

    async def find(self, token: UnverifiedToken) -> Scope:
        """
        Returns the scope of a token that is signed by a live key and is valid now.

        Raises:
            AuthenticationError: The token is wrong, or its key has ended.
            StoreUnavailableError: The ledger cannot be read.

        """
        return await self.scope_of(await self.verify(token))

    async def verify(self, token: UnverifiedToken) -> VerifiedToken:
        """
        Checks the signature of a token.

        Raises:
            ForgedTokenError: The named key has not signed it.
            UnsealedKeyError: The key must be used itself first.
            AuthenticationError: There is no such key.
            StoreUnavailableError: The ledger cannot be read.

        """
        found = await self._signing_keys.find(token.account_id, token.key_name)
        if found is None:
            raise scoped_token.wrong_token()
        if found.secret is None:
            raise UnsealedKeyError(_not_sealed(token.key_name))
        if not token.is_signed_by(found.secret):
            raise ForgedTokenError(found.key.id)
        claims = token.claims
        expires_at_ms = int(claims.exp * 1000)
        return VerifiedToken(
            token.account_id,
            token.key_name,
            found.key.id,
            Bounds(claims.allowed_models, expires_at_ms, claims.limit_picousd),
            TokenScope(token.fingerprint, claims.limit_picousd, expires_at_ms),
        )

    async def scope_of(self, token: VerifiedToken) -> Scope:
        """
        Returns the present rights of a token.

        Raises:
            AuthenticationError: It has expired, or its key has ended.
            StoreUnavailableError: The ledger cannot be read.

        """
        found = await self._signing_keys.find(token.account_id, token.key_name)
        has_expired = self._clock.now_ms() >= token.scope.expires_at_ms
        # Another key may bear the name of a revoked one.
        if found is None or found.key.id != token.key_id or has_expired:
            raise scoped_token.wrong_token()
        return Scope(token.scope, found.key, token.requested.within(found.key))

    async def purge(self) -> int:
        """Deletes scopes whose tokens ended a day ago, a few at a time, and returns how many."""
        num_purged = 0
        while True:
            before_ms = self._clock.now_ms() - GRACE_MS
            batch = partial(scope_rows.delete_expired, before_ms=before_ms, at_most=PURGE_BATCH)
            num_deleted = await self._database.write(batch)
            num_purged += num_deleted
            if num_deleted < PURGE_BATCH:
                return num_purged

    def _checked(self, requested: Bounds, key: KeyRow) -> Bounds:
        now_ms = self._clock.now_ms()
        within = requested.within(key)
        if (
            requested.allowed_models is not None
            and requested.allowed_models != within.allowed_models
        ):
            more = ", ".join(
                sorted(requested.allowed_models - (within.allowed_models or frozenset()))
            )
            raise InvalidRequestError(f"The API key may not use {more}.", param="models")
        if requested.expires_at_ms is None:
            year = Bounds(within.allowed_models, now_ms + YEAR_MS, within.limit_picousd)
            return year.within(key)
        if requested.expires_at_ms != within.expires_at_ms:
            raise InvalidRequestError("The API key expires before that.", param="expires_at")
        if not now_ms < requested.expires_at_ms < scoped_token.END_OF_TIME_S * 1000:
            raise InvalidRequestError("A token expires in the future.", param="expires_at")
        return within


def _not_sealed(key_name: str) -> str:
    return (
        f"Tokens of the API key '{key_name}' cannot be checked since the server was updated, until "
        "the key itself is used once: send any request with it."
    )
