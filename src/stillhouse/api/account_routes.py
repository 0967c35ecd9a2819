"""The paths about one's own account, all of them for its API keys and none for scoped tokens."""

from __future__ import annotations

from starlette.routing import Route

from stillhouse.accounts.accounts import Accounts
from stillhouse.api.api_tokens import ApiTokens
from stillhouse.api.me import Me
from stillhouse.api.own_account import for_keys
from stillhouse.api.payment import Payment
from stillhouse.api.scoped_jwt import ScopedJwt
from stillhouse.billing.statement import Statements
from stillhouse.clock import Clock


def account_routes(
    *,
    accounts: Accounts,
    statements: Statements,
    clock: Clock,
    rate_limit: int,
    tpm_rate_limit: int | None,
) -> list[Route]:
    """
    Every route about accounts.

    Args:
        rate_limit: Requests of an account in flight per model.
        tpm_rate_limit: Tokens of an account per minute and model; None is without limit.

    """
    me = Me(accounts, rate_limit, tpm_rate_limit)
    tokens = ApiTokens(accounts)
    scoped_jwt = ScopedJwt(accounts, clock)
    payment = Payment(accounts, statements, clock)
    endpoints = [
        ("GET", "/v1/me", me.show),
        ("GET", "/v1/me/rate_limit", me.show_rate_limit),
        ("GET", "/v1/api-tokens", tokens.list),
        ("POST", "/v1/api-tokens", tokens.create),
        ("GET", "/v1/api-tokens/{api_token}", tokens.show),
        ("DELETE", "/v1/api-tokens/{api_token}", tokens.revoke),
        ("GET", "/v1/scoped-jwt", scoped_jwt.show),
        ("POST", "/v1/scoped-jwt", scoped_jwt.create),
        ("POST", "/v1/request-costs", payment.request_costs),
        ("GET", "/payment/usage", payment.usage),
        ("GET", "/payment/usage/tokens", payment.usage),  # tokens are all that is sold here
        ("GET", "/payment/usage/{api_token}", payment.usage_of_key),
    ]
    return [
        Route(path, for_keys(endpoint), methods=[method]) for method, path, endpoint in endpoints
    ]
