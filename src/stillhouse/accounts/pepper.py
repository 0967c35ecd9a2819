"""The server's own secret, without which nothing can be learnt from a stolen ledger's keys."""

from __future__ import annotations

import hmac
import secrets
from pathlib import Path

from stillhouse.accounts.secret_file import create_secret_file, read_secret_file
from stillhouse.errors import ConfigError

_NUM_BYTES = 32


class Pepper:
    """
    Makes codes that only this server can make (HMAC-SHA-256).

    Each use has a prefix of its own, so that a code for one is never a code for another.
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

    def mask(self, key_hmac: bytes, state: bytes) -> bytes:
        """
        Encrypt 64 bytes that belong to an API key, or decrypt them: one is the other's inverse.

        A stream cipher whose stream is used once: keys are random, so no two share their HMAC.
        """
        stream = b"".join(
            hmac.digest(self._secret, b"signing-state:%d:" % part + key_hmac, "sha256")
            for part in (0, 1)
        )
        return bytes(a ^ b for a, b in zip(state, stream, strict=True))

    def _code(self, use: bytes, text: str) -> bytes:
        return hmac.digest(self._secret, use + text.encode(), "sha256")
