"""Who may use the endpoints about an account: its API keys, each for its own account alone."""

from __future__ import annotations

from functools import wraps

from starlette.requests import Request
from starlette.responses import Response

from stillhouse.accounts.accounts import Accounts, ApiKey, Principal
from stillhouse.api.http.operation import Endpoint
from stillhouse.errors import PermissionDeniedError


def require_api_key(endpoint: Endpoint) -> Endpoint:
    """Refuse scoped tokens: they are handed to others, and are for inference alone."""

    @wraps(endpoint)
    async def guarded(request: Request) -> Response:
        if principal_of(request).scope is not None:
            raise PermissionDeniedError("A scoped token is for inference; this needs an API key.")
        return await endpoint(request)

    return guarded


def principal_of(request: Request) -> Principal:
    """On whose behalf the request is made, as the gate has found."""
    principal = request.scope["principal"]
    assert isinstance(principal, Principal)
    return principal


async def require_unrestricted(request: Request, accounts: Accounts) -> ApiKey:
    """
    The key of the request, if it may do all that its account may.

    Otherwise a key with a limit could make itself one without.

    Raises:
        PermissionDeniedError: The key expires, is for some models, or has a spending limit.

    """
    key = await own_key(request, accounts)
    if key.is_restricted:
        raise PermissionDeniedError(
            f"The API key '{key.name}' is limited, and cannot manage its account's keys."
        )
    return key


async def own_key(request: Request, accounts: Accounts) -> ApiKey:
    """The key that the request is made with."""
    principal = principal_of(request)
    return await accounts.keys.find(principal.account_id, principal.key_id)
