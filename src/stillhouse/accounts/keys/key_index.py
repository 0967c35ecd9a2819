"""Indexes all keys in memory, so that guessed keys cost no queries."""

from __future__ import annotations

import asyncio
from functools import partial

from stillhouse.clock import Clock
from stillhouse.store.accounts import keys as key_rows
from stillhouse.store.database import Database

#: The interval at which new keys are fetched from the ledger, while keys are being guessed.
REFRESH_S = 1.0

#: The stored length of an HMAC; a collision only costs a query.
_HMAC_BYTES = 8


class KeyIndex:
    """
    Indexes the keys that may exist, with at most one query a second.

    It is used only for addresses that fail too often. It takes some 150 bytes per key from its
    first use on; keys that were revoked since remain in it.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._secrets: set[int] = set()
        self._names: set[int] = set()
        self._newest_id = 0
        self._read_at_s: float | None = None
        self._reading = asyncio.Lock()

    async def has_secret(self, secret_hmac: bytes) -> bool:
        """Returns whether a key with this HMAC may exist."""
        entry = _of_secret(secret_hmac)
        if entry not in self._secrets:
            await self._read_new()
        return entry in self._secrets

    async def has_name(self, account_id: int, name: str) -> bool:
        """Returns whether an account may have a key of this name."""
        entry = hash((account_id, name))
        if entry not in self._names:
            await self._read_new()
        return entry in self._names

    def add(self, secret_hmac: bytes, account_id: int, name: str) -> None:
        """Adds a key that was just minted, before the next query."""
        self._secrets.add(_of_secret(secret_hmac))
        self._names.add(hash((account_id, name)))

    def forget_secret(self, secret_hmac: bytes) -> None:
        """Removes a key that was revoked or has expired."""
        self._secrets.discard(_of_secret(secret_hmac))

    async def _read_new(self) -> None:
        async with self._reading:
            now_s = self._clock.monotonic_s()
            if self._read_at_s is not None and now_s < self._read_at_s + REFRESH_S:
                return
            fetch = partial(key_rows.fetch_live_after, key_id=self._newest_id)
            for key_id, account_id, name, secret_hmac in await self._database.read(fetch):
                self._newest_id = max(self._newest_id, key_id)
                self._secrets.add(_of_secret(secret_hmac))
                self._names.add(hash((account_id, name)))
            self._read_at_s = now_s


def _of_secret(secret_hmac: bytes) -> int:
    return int.from_bytes(secret_hmac[:_HMAC_BYTES], "big")
