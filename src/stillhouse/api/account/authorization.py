"""Authorizes requests about an account: by its API keys, each for its own account."""

from __future__ import annotations

from functools import wraps

from starlette.requests import Request
from starlette.responses import Response

from stillhouse.accounts.accounts import Accounts, ApiKey, Principal
from stillhouse.api.http.operation import Endpoint
from stillhouse.errors import PermissionDeniedError


def require_api_key(endpoint: Endpoint) -> Endpoint:
    """Refuses scoped tokens: they are given to others, and allow inference only."""

    @wraps(endpoint)
    async def guarded(request: Request) -> Response:
        if principal_of(request).scope is not None:
            raise PermissionDeniedError("A scoped token is for inference; this needs an API key.")
        return await endpoint(request)

    return guarded


def principal_of(request: Request) -> Principal:
    """Returns the principal that `AuthMiddleware` authenticated."""
    principal = request.scope["principal"]
    assert isinstance(principal, Principal)
    return principal


async def require_unrestricted(request: Request, accounts: Accounts) -> ApiKey:
    """
    Returns the request's key if it has all rights of its account.

    Otherwise a limited key could make itself an unlimited one.

    Raises:
        PermissionDeniedError: The key expires, is limited to some models, or has a spending limit.

    """
    key = await own_key(request, accounts)
    if key.is_restricted:
        raise PermissionDeniedError(
            f"The API key '{key.name}' is limited, and cannot manage its account's keys."
        )
    return key


async def own_key(request: Request, accounts: Accounts) -> ApiKey:
    """Returns the API key of the request."""
    principal = principal_of(request)
    return await accounts.keys.find(principal.account_id, principal.key_id)
