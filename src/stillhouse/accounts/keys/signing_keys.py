"""Caches the keys that sign tokens for a second; unseals them only to check signatures."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from functools import partial

from stillhouse.accounts.keys.key_sealer import KeySealer
from stillhouse.clock import Clock
from stillhouse.store.accounts import keys as key_rows
from stillhouse.store.accounts.keys import KeyRow
from stillhouse.store.database import Database

#: The delay after which another process's new or revoked key takes effect here.
LIFETIME_S = 1.0

#: The most cached names, including names without a key.
MAX_ENTRIES = 10_000


@dataclass(frozen=True, slots=True)
class SigningKey:
    """
    A live key that may have signed a token.

    Args:
        secret: None until the key itself was used on a ledger of an older stillhouse.

    """

    key: KeyRow
    secret: bytes | None = field(repr=False)


class SigningKeys:
    """Finds the live key that a token names: one query per key and second, however many tokens."""

    def __init__(self, database: Database, clock: Clock, sealer: KeySealer) -> None:
        self._database = database
        self._clock = clock
        self._sealer = sealer
        self._found: OrderedDict[tuple[int, str], tuple[float, SigningKey | None]] = OrderedDict()

    async def find(self, account_id: int, name: str) -> SigningKey | None:
        """
        Returns the account's live key of this name; None if there is none, or it has expired.

        Raises:
            StoreUnavailableError: The ledger cannot be read.

        """
        now_s = self._clock.monotonic_s()
        self._forget_before(now_s - LIFETIME_S)
        if (account_id, name) in self._found:
            found = self._found[account_id, name][1]
        else:
            found = await self._fetch(account_id, name)
            self._found[account_id, name] = now_s, found
            self._found.move_to_end((account_id, name))
        return None if found is None or self._has_expired(found.key) else found

    def forget(self, account_id: int, name: str) -> None:
        """Drops a key, so that its next look-up queries the ledger."""
        self._found.pop((account_id, name), None)

    async def _fetch(self, account_id: int, name: str) -> SigningKey | None:
        fetch = partial(key_rows.fetch_by_name, account_id=account_id, name=name)
        stored = await self._database.read(fetch)
        if stored is None:
            return None
        sealed, key_hmac = stored.sealed_secret, stored.secret_hmac
        secret = None if sealed is None else self._sealer.open(sealed, key_hmac=key_hmac)
        return SigningKey(stored.key, secret)

    def _has_expired(self, key: KeyRow) -> bool:
        return key.expires_at_ms is not None and self._clock.now_ms() >= key.expires_at_ms

    def _forget_before(self, oldest_s: float) -> None:
        """Drops old entries; the oldest come first, as entries are added in order of look-up."""
        while self._found:
            fetched_s, _ = next(iter(self._found.values()))
            if fetched_s > oldest_s and len(self._found) < MAX_ENTRIES:
                return
            self._found.popitem(last=False)
