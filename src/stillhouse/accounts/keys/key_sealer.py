"""Encrypts API keys, so that the ledger holds them for the pepper's owner alone."""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from stillhouse.accounts.keys.pepper import Pepper

#: The length that NIST SP 800-38D recommends; random nonces suffice for 2**32 keys.
_NONCE_BYTES = 12


class KeySealer:
    """
    Seals API keys with AES-256-GCM under a key that the pepper derives.

    Each is bound to its HMAC: a sealed key that was moved to another key's row does not open.
    """

    def __init__(self, pepper: Pepper) -> None:
        self._pepper = pepper
        self._cipher = AESGCM(pepper.sealing_key())

    def seal(self, secret: str) -> bytes:
        """Encrypts a key; each call gives a different result."""
        nonce = os.urandom(_NONCE_BYTES)
        key_hmac = self._pepper.key_hmac(secret)
        return nonce + self._cipher.encrypt(nonce, secret.encode(), key_hmac)

    def open(self, sealed: bytes, *, key_hmac: bytes) -> bytes | None:
        """Decrypts the key of this HMAC; returns None if it was altered or is another's."""
        nonce, encrypted = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
        try:
            return self._cipher.decrypt(nonce, encrypted, key_hmac)
        except (InvalidTag, ValueError):
            return None
