"""Caches principals by key for a second, so that most requests need no query."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from stillhouse.store.accounts.scopes import TokenScope

#: The delay after which a key that another process revoked is refused here.
LIFETIME_S = 1.0

#: The most cached keys; the least recently used is dropped.
MAX_ENTRIES = 10_000


@dataclass(frozen=True, slots=True)
class Principal:
    """
    The account and key that a request is made with.

    Args:
        cache_salt: Separates this account's prompts in the engine's prefix cache.
        allowed_models: Ids of the models that may be used; None when every model may.
        scope: Of the scoped token that speaks for the key; None when it is the key itself.

    """

    account_id: int
    key_id: int
    key_name: str
    cache_salt: str
    allowed_models: frozenset[str] | None = None
    scope: TokenScope | None = None

    @property
    def token_id(self) -> str | None:
        """Returns the id of its scoped token; None for the key itself."""
        return None if self.scope is None else self.scope.fingerprint.hex()

    def may_use(self, model_id: str) -> bool:
        """Returns whether the key may use a model."""
        return self.allowed_models is None or model_id in self.allowed_models


@dataclass(frozen=True, slots=True)
class _Entry:
    principal: Principal
    expires_at_ms: int | None
    fresh_until_s: float


class PrincipalCache:
    """Caches principals by the HMACs of their keys, so that memory holds no secrets."""

    def __init__(self) -> None:
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()

    def find(self, key_hmac: bytes, *, now_s: float, now_ms: int) -> Principal | None:
        """Returns a key's principal, unless the entry is too old or the key has expired."""
        entry = self._entries.get(key_hmac)
        if entry is None or now_s >= entry.fresh_until_s:
            return None
        if entry.expires_at_ms is not None and now_ms >= entry.expires_at_ms:
            return None
        self._entries.move_to_end(key_hmac)
        return entry.principal

    def store(
        self, key_hmac: bytes, principal: Principal, *, expires_at_ms: int | None, as_of_s: float
    ) -> None:
        """Stores a principal that was read from the ledger at *as_of_s*."""
        self._entries[key_hmac] = _Entry(principal, expires_at_ms, as_of_s + LIFETIME_S)
        self._entries.move_to_end(key_hmac)
        while len(self._entries) > MAX_ENTRIES:
            self._entries.popitem(last=False)

    def forget_key(self, key_id: int) -> None:
        """Drops a key's entries, so that its next request reads the ledger."""
        for key_hmac, entry in list(self._entries.items()):
            if entry.principal.key_id == key_id:
                del self._entries[key_hmac]
