"""The ledger as one would write it on a napkin, to compare the real one with."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

from stillhouse.billing.limits import LimitPeriod
from stillhouse.billing.price import Price
from stillhouse.chat import TokenUsage


@dataclass
class NaiveRequest:
    account_id: int
    key_id: int
    price: Price
    hold_picousd: int
    admitted_at_ms: int
    state: str = "HELD"
    cost_picousd: int | None = None
    usage: TokenUsage | None = None


@dataclass
class NaiveLedger:
    """Requests in a dictionary; everything else is summed over all of them every time."""

    requests: dict[str, NaiveRequest] = field(default_factory=dict)
    paid_in_picousd: dict[int, int] = field(default_factory=dict)
    key_limits: dict[int, tuple[int, LimitPeriod]] = field(default_factory=dict)

    def admit(self, request_id: str, request: NaiveRequest) -> bool:
        """Add the request if every limit covers its hold."""
        limit_picousd = self.paid_in_picousd.get(request.account_id)
        used_picousd = sum(self.account(request.account_id))
        if limit_picousd is not None and used_picousd + request.hold_picousd > limit_picousd:
            return False
        if request.key_id in self.key_limits:
            limit_picousd, period = self.key_limits[request.key_id]
            used_picousd = self.used_by_key(request.key_id, period, request.admitted_at_ms)
            if used_picousd + request.hold_picousd > limit_picousd:
                return False
        self.requests[request_id] = request
        return True

    def settle(self, request_id: str, usage: TokenUsage) -> int:
        """Charge a held request; return what a resolved one has cost."""
        request = self.requests[request_id]
        if request.state == "HELD":
            request.state = "SETTLED"
            request.usage = usage
            request.cost_picousd = min(
                (usage.prompt_tokens - usage.cached_tokens) * request.price.input_picousd
                + usage.cached_tokens * request.price.cached_input_picousd
                + usage.completion_tokens * request.price.output_picousd,
                request.hold_picousd,
            )
        assert request.cost_picousd is not None
        return request.cost_picousd

    def void(self, request_id: str, usage: TokenUsage | None) -> None:
        """Charge nothing for a held request."""
        request = self.requests[request_id]
        if request.state == "HELD":
            request.state, request.cost_picousd, request.usage = "VOIDED", 0, usage

    def sweep(self) -> int:
        """Void everything that is held."""
        held = [id_ for id_, request in self.requests.items() if request.state == "HELD"]
        for request_id in held:
            self.void(request_id, None)
        return len(held)

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
