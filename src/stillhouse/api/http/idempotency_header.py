"""The header ``Idempotency-Key`` (draft-ietf-httpapi-idempotency-key-header)."""

from __future__ import annotations

import hashlib

import msgspec

from stillhouse.billing.idempotency_key import IdempotencyKey
from stillhouse.errors import InvalidRequestError

NAME = "Idempotency-Key"
MAX_LENGTH = 255

#: Said of an answer that was given before, as Stripe says it.
REPLAYED = (b"idempotent-replayed", b"true")


def read_idempotency_key(
    key: str | None, *, path: str, body: bytes, token: str | None = None
) -> IdempotencyKey | None:
    """
    The client's own name for its request; None when it gives none.

    Args:
        key: What the header says; None where it is not there.
        token: Names a scoped token: what was said to one is not repeated to another.

    Raises:
        InvalidRequestError: It is empty, too long, or has characters that cannot be printed.

    """
    if key is None:
        return None
    if not 1 <= len(key) <= MAX_LENGTH or not key.isascii() or not key.isprintable():
        raise InvalidRequestError(
            f"{NAME} must have 1 to {MAX_LENGTH} printable ASCII characters, not {len(key)}"
            f" such as {key[:20]!r}",
            param=NAME,
        )
    place = f"{path}\n{token}\n".encode()
    return IdempotencyKey(key, hashlib.sha256(place + _canonical(body)).digest())


def _canonical(body: bytes) -> bytes:
    """The same bytes for the same JSON, however it is spaced and ordered."""
    try:
        return msgspec.json.encode(msgspec.json.decode(body), order="deterministic")
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return body  # of what is odd, only the very same is the same
