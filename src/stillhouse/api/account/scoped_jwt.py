"""``/v1/scoped-jwt``: tokens with fewer rights than the key that signs them."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated

from pydantic import WithJsonSchema
from starlette.requests import Request
from starlette.responses import Response
from typing_extensions import TypedDict

from stillhouse.accounts.accounts import Accounts
from stillhouse.accounts.authentication import scoped_token
from stillhouse.api.account.account_schema import ScopedJwtIn, read_json
from stillhouse.api.account.authorization import own_key, principal_of
from stillhouse.api.http.operation import Operation, Query, declares
from stillhouse.api.http.routing import private_json_response
from stillhouse.clock import Clock
from stillhouse.errors import AuthenticationError, InvalidRequestError, PermissionDeniedError
from stillhouse.money import usd


class ScopedJwtOut(TypedDict):
    """A token, which clients use like an API key."""

    token: str


class ScopeOut(TypedDict):
    """
    The rights of a token, within those of its key; null is unlimited.

    Args:
        expires_at: In seconds since 1970.
        spending_limit: In USD.

    """

    expires_at: int
    models: list[str] | None
    spending_limit: Annotated[Decimal, WithJsonSchema({"type": "number"})] | None


@dataclass(frozen=True, slots=True)
class ScopedJwt:
    """The endpoints that make and describe scoped tokens."""

    accounts: Accounts
    clock: Clock

    @declares(
        Operation(
            "Make a token with fewer rights than the key",
            body=ScopedJwtIn,
            response=ScopedJwtOut,
            statuses=(404,),
        )
    )
    async def create(self, request: Request) -> Response:
        """Makes a token, signed with one of the account's keys."""
        parsed = await read_json(request, ScopedJwtIn)
        key = await own_key(request, self.accounts)
        if key.is_restricted and parsed.api_key_name != key.name:
            raise PermissionDeniedError(
                f"The API key '{key.name}' is limited, and signs only its own tokens."
            )
        bounds = parsed.to_bounds(now_ms=self.clock.now_ms())
        token = await self.accounts.scopes.mint(key.account_id, parsed.api_key_name, bounds)
        return private_json_response(ScopedJwtOut(token=token))

    @declares(
        Operation(
            "The rights of a scoped token",
            response=ScopeOut,
            queries=(Query("jwtoken", "jwt:...", is_required=True),),
            statuses=(422,),
        )
    )
    async def show(self, request: Request) -> Response:
        """Returns the rights of a token of the account, within those of its key."""
        try:
            token = scoped_token.parse(
                request.query_params.get("jwtoken", ""), now_ms=self.clock.now_ms()
            )
            if token.account_id != principal_of(request).account_id:
                raise scoped_token.wrong_token()
            scope = await self.accounts.scopes.find(token)
        except AuthenticationError as error:
            # The request's own key is valid.
            raise InvalidRequestError(error.message, param="jwtoken") from error
        bounds = scope.bounds
        assert bounds.expires_at_ms is not None, "every token expires"
        models, limit_picousd = bounds.allowed_models, bounds.limit_picousd
        body: ScopeOut = {
            "expires_at": bounds.expires_at_ms // 1000,
            "models": None if models is None else sorted(models),
            "spending_limit": None if limit_picousd is None else usd(limit_picousd),
        }
        return private_json_response(body)
