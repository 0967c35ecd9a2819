"""Describes the idempotency key of a request."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """
    A client's key for its request, under which the request runs only once.

    Args:
        value: The header's value.
        fingerprint: SHA-256 of the request; the same key with another fingerprint is refused.

    """

    value: str
    fingerprint: bytes
