"""The header ``Idempotency-Key`` (draft-ietf-httpapi-idempotency-key-header)."""

from __future__ import annotations

import hashlib

import msgspec

from stillhouse.billing.idempotency_key import IdempotencyKey
from stillhouse.errors import InvalidRequestError

NAME = "Idempotency-Key"
MAX_LENGTH = 255

#: Marks a replayed response, as Stripe does.
REPLAYED = (b"idempotent-replayed", b"true")


def read_idempotency_key(
    key: str | None, *, path: str, body: bytes, token: str | None = None
) -> IdempotencyKey | None:
    """
    Parses the idempotency key of a request; None if it has none.

    Args:
        key: The header's value; None if it is missing.
        token: Identifies a scoped token: a response to one is not replayed to another.

    Raises:
        InvalidRequestError: It is empty, too long, or has unprintable characters.

    """
    if key is None:
        return None
    if not 1 <= len(key) <= MAX_LENGTH or not key.isascii() or not key.isprintable():
        raise InvalidRequestError(
            f"{NAME} must have 1 to {MAX_LENGTH} printable ASCII characters, not {len(key)}"
            f" such as {key[:20]!r}",
            param=NAME,
        )
    context = f"{path}\n{token}\n".encode()
    return IdempotencyKey(key, hashlib.sha256(context + _canonical(body)).digest())


def _canonical(body: bytes) -> bytes:
    """Returns the same bytes for equal JSON, whatever its spaces and key order."""
    try:
        return msgspec.json.encode(msgspec.json.decode(body), order="deterministic")
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return body  # other bodies are equal only byte by byte
