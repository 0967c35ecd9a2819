"""A client's own name for its request, under which it can ask again."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """
    A client's name for its request.

    Args:
        fingerprint: SHA-256 of what is asked; the same key with another one is a mistake.

    """

    value: str
    fingerprint: bytes
