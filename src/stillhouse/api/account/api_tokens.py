"""``/v1/api-tokens``: an account's API keys."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from typing_extensions import TypedDict

from stillhouse.accounts.accounts import Accounts, ApiKey
from stillhouse.api.account.account_schema import ApiTokenIn, read_json
from stillhouse.api.account.authorization import principal_of, require_unrestricted
from stillhouse.api.http.operation import Operation, declares
from stillhouse.api.http.routing import private_json_response
from stillhouse.errors import KeyNotFoundError


class ApiTokenOut(TypedDict):
    """
    An API key.

    Args:
        token: The whole secret in the response that makes the key; otherwise its first characters.
        created_at: In seconds since 1970.
        token_id: Identifies the key in paths.

    """

    token: str
    created_at: int
    name: str
    token_id: str
    allowed_ips: None


class RevokedOut(TypedDict):
    """An empty object: the key is revoked."""


@dataclass(frozen=True, slots=True)
class ApiTokens:
    """The endpoints that list, make and revoke keys."""

    accounts: Accounts

    @declares(Operation("The account's API keys", response=list[ApiTokenOut]))
    async def list_all(self, request: Request) -> Response:
        """Returns every working key, with the first characters of its secret."""
        keys = await self.accounts.keys.list_live(principal_of(request).account_id)
        return private_json_response([_key_out(key) for key in keys])

    @declares(
        Operation(
            "Make an API key; only this response has the whole secret",
            body=ApiTokenIn,
            response=ApiTokenOut,
            statuses=(409,),
        )
    )
    async def create(self, request: Request) -> Response:
        """Makes a key; 409 if its name is taken or the account has too many keys."""
        parsed = await read_json(request, ApiTokenIn)
        maker = await require_unrestricted(request, self.accounts)
        minted = await self.accounts.keys.mint(maker.account_id, parsed.name, is_by_customer=True)
        return private_json_response(_key_out(minted.key, token=minted.secret))

    @declares(Operation("One API key, by id", response=ApiTokenOut, statuses=(404,)))
    async def show(self, request: Request) -> Response:
        """Returns one working key; 404 if the account has none with this id."""
        return private_json_response(_key_out(await self._find(request)))

    @declares(Operation("Revoke an API key, by id", response=RevokedOut, statuses=(404,)))
    async def revoke(self, request: Request) -> Response:
        """Revokes a key; it and its scoped tokens are refused from now on."""
        await require_unrestricted(request, self.accounts)
        key = await self._find(request)
        await self.accounts.keys.revoke(key)
        return private_json_response(RevokedOut())

    async def _find(self, request: Request) -> ApiKey:
        account_id = principal_of(request).account_id
        key = await self.accounts.keys.find(account_id, key_id_in(request))
        if key.revoked_at_ms is not None:
            raise KeyNotFoundError(f"The API key {key.id} is revoked.")
        return key


def key_id_in(request: Request) -> int:
    """Returns the key's id in the path; KeyNotFoundError if it is no id, such as a secret."""
    text = request.path_params["api_token"]
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise KeyNotFoundError("The path has no API key's id; GET /v1/api-tokens lists the ids.")
    return int(text)


def _key_out(key: ApiKey, *, token: str | None = None) -> ApiTokenOut:
    return {
        "token": token or f"{key.prefix}…",
        "created_at": key.created_at_ms // 1000,
        "name": key.name,
        "token_id": str(key.id),
        "allowed_ips": None,
    }
