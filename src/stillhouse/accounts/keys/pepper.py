"""Holds the pepper: the server's secret, without which a stolen ledger reveals no keys."""

from __future__ import annotations

import hmac
import secrets
from pathlib import Path

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from stillhouse.accounts.keys.secret_file import create_secret_file, read_secret_file
from stillhouse.errors import ConfigError

_NUM_BYTES = 32


class Pepper:
    """
    Derives codes (HMAC-SHA-256) and keys (HKDF-SHA-256) that only this server can derive.

    Each use has its own prefix or context, so that a code for one is never a code for another.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    @classmethod
    def load(cls, path: Path) -> Pepper | None:
        """
        Reads the pepper; returns None if the file does not exist.

        Raises:
            ConfigError: The file is not a pepper, or others can read it.

        """
        text = read_secret_file(path)
        if text is None:
            return None
        try:
            secret = bytes.fromhex(text)
        except ValueError:
            secret = b""
        if len(secret) != _NUM_BYTES:
            raise ConfigError(f"{path}: must be {_NUM_BYTES} bytes in hexadecimal. Restore it.")
        return cls(secret)

    @classmethod
    def load_or_create(cls, path: Path) -> Pepper:
        """
        Reads the pepper; creates it at the first start.

        Raises:
            ConfigError: As `load`, or the file cannot be written.

        """
        create_secret_file(path, secrets.token_hex(_NUM_BYTES))
        pepper = cls.load(path)
        assert pepper is not None, f"{path} was made and is gone"
        return pepper

    def key_hmac(self, secret: str) -> bytes:
        """Returns the code that is stored for an API key: 32 bytes."""
        return self._code(b"api-key:", secret)

    def fingerprint(self) -> bytes:
        """Returns a code that identifies the pepper without revealing it: 32 bytes."""
        return self._code(b"fingerprint:", "")

    def cache_salt(self, account_id: int) -> str:
        """Returns the salt of an account's cached prompts, which no other account can find."""
        return self._code(b"cache-salt:", str(account_id)).hex()

    def sealing_key(self) -> bytes:
        """
        Derives the key that API keys are encrypted under: 32 bytes.

        Source:
            RFC 5869; the pepper is random and as long as the hash, so no salt is needed.

        """
        context = b"stillhouse: API keys, AES-256-GCM, 1"
        return HKDF(SHA256(), length=32, salt=None, info=context).derive(self._secret)

    def _code(self, use: bytes, text: str) -> bytes:
        return hmac.digest(self._secret, use + text.encode(), "sha256")
