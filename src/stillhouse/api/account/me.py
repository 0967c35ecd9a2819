"""``GET /v1/me``: the account of a key, and its rate limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from starlette.requests import Request
from starlette.responses import Response
from typing_extensions import TypedDict

from stillhouse.accounts.accounts import Accounts
from stillhouse.accounts.authentication.scoped_token import account_uid
from stillhouse.api.account.authorization import principal_of
from stillhouse.api.http.operation import Operation, declares
from stillhouse.api.http.routing import private_json_response


class AccountOut(TypedDict):
    """An account; the personal fields of DeepInfra are empty."""

    uid: str
    email: None
    email_verified: None
    account_setup: Literal[True]
    display_name: str
    provider: None
    picture: None
    is_admin: Literal[False]
    name: str
    is_team_account: Literal[False]


class RateLimitOut(TypedDict):
    """Limits per model: requests in flight, and tokens per minute if those are limited."""

    rate_limit: int
    tpm_rate_limit: int | None


@dataclass(frozen=True, slots=True)
class Me:
    """
    The endpoints that describe the account of a key.

    Args:
        rate_limit: Requests in flight per model.
        tpm_rate_limit: Tokens per minute and model; None is without limit.

    """

    accounts: Accounts
    rate_limit: int
    tpm_rate_limit: int | None

    @declares(Operation("The key's account", response=AccountOut))
    async def show(self, request: Request) -> Response:
        """Returns the account."""
        account = await self.accounts.find_account(principal_of(request).account_id)
        body: AccountOut = {
            "uid": account_uid(account.id),
            "email": None,
            "email_verified": None,
            "account_setup": True,
            "display_name": account.name,
            "provider": None,
            "picture": None,
            "is_admin": False,
            "name": account.name,
            "is_team_account": False,
        }
        return private_json_response(body)

    @declares(Operation("The account's rate limits per model", response=RateLimitOut))
    async def show_rate_limit(self, _request: Request) -> Response:
        """Returns the rate limits of every account."""
        body: RateLimitOut = {
            "rate_limit": self.rate_limit,
            "tpm_rate_limit": self.tpm_rate_limit,
        }
        return private_json_response(body)
