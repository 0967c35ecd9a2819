"""
Mints and checks API keys: ``sh_``, 160 random bits and a checksum, in base 62.

The checksum lets a mistyped or made-up key be refused without a query, and lets scanners tell a
leaked key from chance (github.blog/2021-04-05-behind-githubs-new-authentication-token-formats).
"""

from __future__ import annotations

import hmac
import re
import secrets
import string
import zlib

PREFIX = "sh_"
_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_RANDOM_BITS = 160
_RANDOM_LENGTH = 27  # 62**27 > 2**160
_CHECKSUM_LENGTH = 6  # 62**6 > 2**32
_PATTERN = re.compile(
    rf"{PREFIX}([0-9A-Za-z]{{{_RANDOM_LENGTH}}})([0-9A-Za-z]{{{_CHECKSUM_LENGTH}}})"
)

#: The shown part of a key: enough to distinguish keys, too little to guess the rest.
_SHOWN_LENGTH = len(PREFIX) + 5


def mint() -> str:
    """Returns a new secret from the operating system's random numbers."""
    random = _base62(secrets.randbits(_RANDOM_BITS), _RANDOM_LENGTH)
    return f"{PREFIX}{random}{_checksum(random)}"


def is_well_formed(secret: str) -> bool:
    """Returns whether *secret* could have been minted: its shape and checksum are right."""
    match = _PATTERN.fullmatch(secret)
    return match is not None and hmac.compare_digest(_checksum(match[1]), match[2])


def shown_part(secret: str) -> str:
    """Returns the beginning of *secret*, which identifies it in a list."""
    return secret[:_SHOWN_LENGTH]


def _checksum(random: str) -> str:
    return _base62(zlib.crc32(random.encode()), _CHECKSUM_LENGTH)


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
