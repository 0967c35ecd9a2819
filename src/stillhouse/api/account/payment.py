"""``/payment/usage`` and ``/v1/request-costs``: an account's usage and charges."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from starlette.requests import Request
from starlette.responses import Response
from typing_extensions import TypedDict

from stillhouse.accounts.accounts import Accounts
from stillhouse.accounts.authentication.scoped_token import END_OF_TIME_S
from stillhouse.api.account.account_schema import RequestCostsIn, read_json
from stillhouse.api.account.api_tokens import key_id_in
from stillhouse.api.account.authorization import principal_of
from stillhouse.api.http.operation import Operation, Query, declares
from stillhouse.api.http.routing import private_json_response
from stillhouse.billing.statements.month import Month
from stillhouse.billing.statements.statement import Line, Statement, Statements, TokenItem
from stillhouse.clock import Clock
from stillhouse.errors import InvalidRequestError
from stillhouse.money import PICOUSD_PER_USD, half_up

MAX_MONTHS = 120

_PICOUSD_PER_CENT = PICOUSD_PER_USD // 100
_PICOUSD_PER_NANOUSD = 1000
_CURRENT = re.compile(r"current(?:-([0-9]{1,4})|\(-([0-9]{1,4})\))?")
_MONTH = re.compile(r"([0-9]{4})\.([0-9]{2})")


_MONTH_QUERY = r"^(current(-[0-9]{1,4}|\(-[0-9]{1,4}\))?|[0-9]{4}\.[0-9]{2}|[0-9]{1,12})$"
_MONTHS = (
    Query("from", "YYYY.MM, current, current-N or Unix seconds", _MONTH_QUERY),
    Query("to", "the same, and included; at most 120 months", _MONTH_QUERY),
)


class RequestCostOut(TypedDict):
    """The cost of a request; half a nano-dollar is rounded up."""

    requestId: str
    costNanoUsd: int


class RequestCostsOut(TypedDict):
    """The costs of the account's own requests."""

    requests: list[RequestCostOut]


class BilledModelOut(TypedDict):
    """The model that was used; `plan_id` is the service tier."""

    provider: str
    model_name: str
    task: Literal["text-generation"]
    plan_id: str
    private: Literal[False]


class IntervalOut(TypedDict):
    """A half-open interval of time, in milliseconds since 1970."""

    fr: int
    to: int


class UsageItemOut(TypedDict):
    """
    Tokens of one kind, for one model, in a month.

    Args:
        units: Tokens.
        rate: Cents per token.
        cost: Cents, half a cent rounded up.
        cost_picousd: The same, exact, in 1e-12 USD.

    """

    model: BilledModelOut
    units: int
    rate: float
    cost: int
    cost_picousd: int
    pricing_type: str
    price_version: int
    interval: IntervalOut


class UsageMonthOut(TypedDict):
    """
    A month.

    Args:
        period: YYYY.MM.
        total_cost: Cents, half a cent rounded up.
        total_cost_picousd: The same, exact, in 1e-12 USD.
        invoice_id: The period; ``NOT_FINAL`` while the month lasts, ``EMPTY`` without usage.

    """

    period: str
    interval: IntervalOut
    items: list[UsageItemOut]
    total_cost: int
    total_cost_picousd: int
    invoice_id: str


class AccountUsageOut(TypedDict):
    """Usage by month; `initial_month` is the account's first month."""

    months: list[UsageMonthOut]
    initial_month: str


@dataclass(frozen=True, slots=True)
class Payment:
    """The endpoints that report usage and costs."""

    accounts: Accounts
    statements: Statements
    clock: Clock

    @declares(
        Operation(
            "Usage by month, of all keys",
            response=AccountUsageOut,
            queries=_MONTHS,
            statuses=(422,),
        )
    )
    async def usage(self, request: Request) -> Response:
        """Returns the usage of all keys of the account, by month."""
        return await self._usage(request, key_id=None)

    @declares(
        Operation(
            "The same as /payment/usage: nothing but tokens is sold",
            response=AccountUsageOut,
            queries=_MONTHS,
            statuses=(422,),
        )
    )
    async def usage_of_tokens(self, request: Request) -> Response:
        """Returns the same as `usage`: nothing but tokens is sold."""
        return await self._usage(request, key_id=None)

    @declares(
        Operation(
            "Usage by month, of one key",
            response=AccountUsageOut,
            queries=_MONTHS,
            statuses=(404, 422),
        )
    )
    async def usage_of_key(self, request: Request) -> Response:
        """Returns the usage of one key by month, also if the key is revoked."""
        account_id = principal_of(request).account_id
        key = await self.accounts.keys.find(account_id, key_id_in(request))
        return await self._usage(request, key_id=key.id)

    @declares(
        Operation(
            "Costs of requests, in nano-dollars", body=RequestCostsIn, response=RequestCostsOut
        )
    )
    async def request_costs(self, request: Request) -> Response:
        """Returns the costs of the account's requests in nano-dollars; other ids are left out."""
        parsed = await read_json(request, RequestCostsIn)
        account_id = principal_of(request).account_id
        costs = await self.statements.costs_picousd(account_id, parsed.request_ids)
        request_costs: list[RequestCostOut] = [
            {"requestId": id_, "costNanoUsd": half_up(cost_picousd, _PICOUSD_PER_NANOUSD)}
            for id_, cost_picousd in costs.items()
        ]
        return private_json_response(RequestCostsOut(requests=request_costs))

    async def _usage(self, request: Request, *, key_id: int | None) -> Response:
        now_ms = self.clock.now_ms()
        account = await self.accounts.find_account(principal_of(request).account_id)
        months = [
            _month_out(
                await self.statements.of(month, account_id=account.id, key_id=key_id),
                is_over=month.end_ms <= now_ms,
            )
            for month in _months_in(request, now_ms)
        ]
        first = _period(Month.of(account.created_at_ms))
        return private_json_response(AccountUsageOut(months=months, initial_month=first))


def _months_in(request: Request, now_ms: int) -> list[Month]:
    """Returns the months of the query, the first and the last included."""
    first = _parse_month(request, "from", now_ms)
    last = _parse_month(request, "to", now_ms)
    num_months = (last.year - first.year) * 12 + last.month - first.month + 1
    if not 1 <= num_months <= MAX_MONTHS:
        raise InvalidRequestError(
            f"from {_period(first)} to {_period(last)} is not 1 to {MAX_MONTHS} months",
            param="from",
        )
    return [first.later(number) for number in range(num_months)]


def _parse_month(request: Request, param: str, now_ms: int) -> Month:
    text = request.query_params.get(param, "current")
    if match := _CURRENT.fullmatch(text):
        return Month.of(now_ms).later(-int(match[1] or match[2] or 0))
    if match := _MONTH.fullmatch(text):
        return Month.parse(f"{match[1]}-{match[2]}")
    if text.isascii() and text.isdigit() and len(text) < 13 and int(text) < END_OF_TIME_S:
        return Month.of(int(text) * 1000)
    raise InvalidRequestError(
        f"{param} must be YYYY.MM, current, current-N or Unix seconds, got {text[:80]!r}",
        param=param,
    )


def _month_out(statement: Statement, *, is_over: bool) -> UsageMonthOut:
    items = [
        _item_out(statement.month, line, item) for line in statement.lines for item in line.items
    ]
    final = _period(statement.month) if items else "EMPTY"
    return {
        "period": _period(statement.month),
        "interval": _interval(statement.month),
        "items": [item for item in items if item["units"]],
        "total_cost": half_up(statement.cost_picousd, _PICOUSD_PER_CENT),
        "total_cost_picousd": statement.cost_picousd,
        "invoice_id": final if is_over else "NOT_FINAL",
    }


def _item_out(month: Month, line: Line, item: TokenItem) -> UsageItemOut:
    usage = line.usage
    return {
        "model": {
            "provider": usage.model.partition("/")[0],
            "model_name": usage.model,
            "task": "text-generation",
            "plan_id": usage.service_tier,
            "private": False,
        },
        "units": item.num_tokens,
        "rate": item.rate_picousd / _PICOUSD_PER_CENT,
        "cost": half_up(item.amount_picousd, _PICOUSD_PER_CENT),
        "cost_picousd": item.amount_picousd,
        "pricing_type": f"{item.kind}_tokens",
        "price_version": usage.price_version,
        "interval": _interval(month),
    }


def _interval(month: Month) -> IntervalOut:
    return {"fr": month.begin_ms, "to": month.end_ms}


def _period(month: Month) -> str:
    return str(month).replace("-", ".")
