"""The paths about one's own account, all of them for its API keys and none for scoped tokens."""

from __future__ import annotations

from starlette.routing import Route

from stillhouse.accounts.accounts import Accounts
from stillhouse.api.account.api_tokens import ApiTokens
from stillhouse.api.account.authorization import require_api_key
from stillhouse.api.account.me import Me
from stillhouse.api.account.payment import Payment
from stillhouse.api.account.scoped_jwt import ScopedJwt
from stillhouse.api.http.json_route import Endpoint, resource
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
    return [
        _own("/v1/me", GET=me.show),
        _own("/v1/me/rate_limit", GET=me.show_rate_limit),
        _own("/v1/api-tokens", GET=tokens.list, POST=tokens.create),
        _own("/v1/api-tokens/{api_token}", GET=tokens.show, DELETE=tokens.revoke),
        _own("/v1/scoped-jwt", GET=scoped_jwt.show, POST=scoped_jwt.create),
        _own("/v1/request-costs", POST=payment.request_costs),
        _own("/payment/usage", GET=payment.usage),
        _own("/payment/usage/tokens", GET=payment.usage),  # tokens are all that is sold here
        _own("/payment/usage/{api_token}", GET=payment.usage_of_key),
    ]


def _own(path: str, **endpoints: Endpoint) -> Route:
    return resource(path, **{method: require_api_key(serve) for method, serve in endpoints.items()})
