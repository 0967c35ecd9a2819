"""The server's own secret, without which nothing can be learnt from a stolen ledger's keys."""

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
    Makes codes (HMAC-SHA-256) and keys (HKDF-SHA-256) that only this server can make.

    Each use has a prefix or context of its own, so that a code for one is never one for another.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    @classmethod
    def load(cls, path: Path) -> Pepper | None:
        """
        Read the pepper; None when the file does not exist.

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
        Read the pepper, making it at the first start.

        Raises:
            ConfigError: As `load`, or the file cannot be written.

        """
        create_secret_file(path, secrets.token_hex(_NUM_BYTES))
        pepper = cls.load(path)
        assert pepper is not None, f"{path} was made and is gone"
        return pepper

    def key_hmac(self, secret: str) -> bytes:
        """What is stored of an API key: 32 bytes."""
        return self._code(b"api-key:", secret)

    def fingerprint(self) -> bytes:
        """By what the pepper is known, and cannot be learnt from: 32 bytes."""
        return self._code(b"fingerprint:", "")

    def cache_salt(self, account_id: int) -> str:
        """What an account's prompts are cached under, so that no other account ever finds them."""
        return self._code(b"cache-salt:", str(account_id)).hex()

    def sealing_key(self) -> bytes:
        """
        Derive the key that API keys are encrypted under: 32 bytes.

        Source:
            RFC 5869; the pepper is random and as long as the hash, so no salt is needed.

        """
        context = b"stillhouse: API keys, AES-256-GCM, 1"
        return HKDF(SHA256(), length=32, salt=None, info=context).derive(self._secret)

    def _code(self, use: bytes, text: str) -> bytes:
        return hmac.digest(self._secret, use + text.encode(), "sha256")
