"""The routes about an account: its API keys may use them, and scoped tokens may not."""

from __future__ import annotations

from stillhouse.accounts.accounts import Accounts
from stillhouse.api.account.api_tokens import ApiTokens
from stillhouse.api.account.authorization import require_api_key
from stillhouse.api.account.me import Me
from stillhouse.api.account.payment import Payment
from stillhouse.api.account.scoped_jwt import ScopedJwt
from stillhouse.api.http.operation import Access, Endpoint
from stillhouse.api.http.routing import ApiRoute, endpoint_route
from stillhouse.billing.statements.statement import Statements
from stillhouse.clock import Clock


def account_routes(
    *,
    accounts: Accounts,
    statements: Statements,
    clock: Clock,
    rate_limit: int,
    tpm_rate_limit: int | None,
) -> list[ApiRoute]:
    """
    Returns every route about accounts.

    Args:
        rate_limit: Requests of an account in flight per model.
        tpm_rate_limit: Tokens of an account per minute and model; None is without limit.

    """
    me = Me(accounts, rate_limit, tpm_rate_limit)
    tokens = ApiTokens(accounts)
    scoped_jwt = ScopedJwt(accounts, clock)
    payment = Payment(accounts, statements, clock)
    return [
        _account_route("/v1/me", GET=me.show),
        _account_route("/v1/me/rate_limit", GET=me.show_rate_limit),
        _account_route("/v1/api-tokens", GET=tokens.list_all, POST=tokens.create),
        _account_route("/v1/api-tokens/{api_token}", GET=tokens.show, DELETE=tokens.revoke),
        _account_route("/v1/scoped-jwt", GET=scoped_jwt.show, POST=scoped_jwt.create),
        _account_route("/v1/request-costs", POST=payment.request_costs),
        _account_route("/payment/usage", GET=payment.usage),
        _account_route("/payment/usage/tokens", GET=payment.usage_of_tokens),
        _account_route("/payment/usage/{api_token}", GET=payment.usage_of_key),
    ]


def _account_route(path: str, **endpoints: Endpoint) -> ApiRoute:
    guarded = {method: require_api_key(endpoint) for method, endpoint in endpoints.items()}
    return endpoint_route(path, tag="Account", access=Access.ACCOUNT, **guarded)
