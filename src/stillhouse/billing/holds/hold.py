"""A hold: the highest possible cost of one request, reserved until the request is resolved."""

from __future__ import annotations

from dataclasses import dataclass

from stillhouse.billing.idempotency_key import IdempotencyKey
from stillhouse.billing.price import Price
from stillhouse.store.ledger.requests import HeldRequest


@dataclass(frozen=True, slots=True)
class Hold:
    """
    The highest possible cost of one request, reserved on its account.

    Settle or void it exactly once; repeating either changes nothing.

    Args:
        price: The price version that the request is charged by, whatever is published later.
        idempotency_key: The client's own name for the request.

    """

    request_id: str
    price: Price
    held: HeldRequest
    idempotency_key: IdempotencyKey | None = None

    @property
    def ceiling_picousd(self) -> int:
        """Returns the reserved amount, which is the most that will be charged."""
        return self.held.hold_picousd
