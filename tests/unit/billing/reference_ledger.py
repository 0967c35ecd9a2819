"""The ledger as one would write it on a napkin, to compare the real one with."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime

from stillhouse.billing.holds.transactions import LEASE_MS
from stillhouse.billing.limits.spending_limits import LimitPeriod
from stillhouse.billing.price import Price
from stillhouse.types.usage import TokenUsage


@dataclass
class ReferenceRequest:
    account_id: int
    key_id: int
    price: Price
    hold_picousd: int
    admitted_at_ms: int
    state: str = "HELD"
    cost_picousd: int | None = None
    usage: TokenUsage | None = None
    is_lost: bool = False
    lease_until_ms: int = 0

    def __post_init__(self) -> None:
        self.renew(self.admitted_at_ms)

    def renew(self, at_ms: int) -> None:
        """Its gateway says that it works on it."""
        self.lease_until_ms = at_ms + LEASE_MS


@dataclass
class ReferenceLedger:
    """Requests in a dictionary; everything else is summed over all of them every time."""

    requests: dict[str, ReferenceRequest] = field(default_factory=dict)
    paid_in_picousd: dict[int, int] = field(default_factory=dict)
    key_limits: dict[int, tuple[int, LimitPeriod]] = field(default_factory=dict)

    def admit(self, request_id: str, request: ReferenceRequest) -> bool:
        """Add the request if every limit covers its hold."""
        if not self.covers(request, request.hold_picousd):
            return False
        self.requests[request_id] = request
        return True

    def covers(self, request: ReferenceRequest, amount_picousd: int) -> bool:
        """Whether every limit leaves so much for a request."""
        limit_picousd = self.paid_in_picousd.get(request.account_id)
        used_picousd = sum(self.account(request.account_id))
        if limit_picousd is not None and used_picousd + amount_picousd > limit_picousd:
            return False
        if request.key_id in self.key_limits:
            limit_picousd, period = self.key_limits[request.key_id]
            used_picousd = self.used_by_key(request.key_id, period, request.admitted_at_ms)
            if used_picousd + amount_picousd > limit_picousd:
                return False
        return True

    def renew(self, request_id: str, at_ms: int) -> None:
        """Keep what is held, and hold what is lost again if every limit covers that."""
        request = self.requests[request_id]
        if request.is_lost and self.covers(request, request.hold_picousd):
            request.state, request.cost_picousd, request.is_lost = "HELD", None, False
        request.renew(at_ms)

    def settle(self, request_id: str, usage: TokenUsage) -> int:
        """Charge a held request, or a lost one if that is covered; return what it costs."""
        request = self.requests[request_id]
        cost_picousd = min(
            (usage.prompt_tokens - usage.cached_tokens) * request.price.input_picousd
            + usage.cached_tokens * request.price.cached_input_picousd
            + usage.completion_tokens * request.price.output_picousd,
            request.hold_picousd,
        )
        if request.is_lost and not self.covers(request, cost_picousd):
            request.usage, request.is_lost = usage, False
        if request.state == "HELD" or request.is_lost:
            request.state, request.is_lost = "SETTLED", False
            request.usage, request.cost_picousd = usage, cost_picousd
        assert request.cost_picousd is not None
        return request.cost_picousd

    def void(self, request_id: str, usage: TokenUsage | None) -> None:
        """Charge nothing for a held request, or say what was made for a lost one."""
        request = self.requests[request_id]
        if request.state == "HELD":
            request.state, request.cost_picousd, request.usage = "VOIDED", 0, usage
        elif request.is_lost and usage is not None:
            request.usage, request.is_lost = usage, False

    def sweep(self, until_ms: int = sys.maxsize) -> int:
        """Void what is held whose lease has ended at a moment; without one, everything."""
        held = [request for request in self.requests.values() if request.state == "HELD"]
        ended = [request for request in held if request.lease_until_ms <= until_ms]
        for request in ended:
            request.state, request.cost_picousd, request.is_lost = "VOIDED", 0, True
        return len(ended)

    def account(self, account_id: int) -> tuple[int, int]:
        """What an account has spent and holds."""
        mine = [request for request in self.requests.values() if request.account_id == account_id]
        return (
            sum(request.cost_picousd or 0 for request in mine),
            sum(request.hold_picousd for request in mine if request.state == "HELD"),
        )

    def used_by_key(self, key_id: int, period: LimitPeriod, at_ms: int) -> int:
        """What a key has spent and holds, of all time or in the month of *at_ms*."""
        return sum(
            request.hold_picousd if request.state == "HELD" else request.cost_picousd or 0
            for request in self.requests.values()
            if request.key_id == key_id
            and (period is LimitPeriod.TOTAL or month(request.admitted_at_ms) == month(at_ms))
        )


def month(at_ms: int) -> str:
    """The calendar month in UTC."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m")
