"""Parses the bodies of the account endpoints, in DeepInfra's dialect."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from starlette.requests import Request

from stillhouse.accounts.accounts import MAX_NAME_LENGTH, Bounds
from stillhouse.api.bodies.json_body import parse_json
from stillhouse.api.bodies.request_body import read_body
from stillhouse.api.http.validation import first_error
from stillhouse.errors import InvalidRequestError
from stillhouse.money import MAX_PICOUSD, PICOUSD_PER_USD, picousd

#: The event loop parses this much in 3 ms at worst. A thousand request ids have 48 KiB.
MAX_BODY_BYTES = 64 * 1024
MAX_REQUEST_IDS = 1000

B = TypeVar("B", bound="BodyIn")


_UsdIn = Annotated[float, Field(ge=0, le=MAX_PICOUSD // PICOUSD_PER_USD)] | None


def _in_picousd(usd: object) -> int | None:
    if usd is None:
        return None
    if isinstance(usd, bool) or not isinstance(usd, int | Decimal):
        raise ValueError("should be an amount in USD")  # noqa: TRY004  (pydantic wants this one)
    return picousd(Decimal(usd))


class BodyIn(BaseModel):
    """A body that ignores unknown fields and checks the types of known ones."""

    model_config = ConfigDict(extra="ignore", strict=True)


class ApiTokenIn(BodyIn):
    """
    ``POST /v1/api-tokens``.

    Args:
        name: One line.

    """

    name: str = Field(min_length=1, max_length=MAX_NAME_LENGTH)


class ScopedJwtIn(BodyIn):
    """
    ``POST /v1/scoped-jwt``.

    Args:
        api_key_name: Name of the working key that signs.
        models: Must be among the key's models if the key is limited to some.
        expires_delta: In seconds from now.
        expires_at: In seconds since 1970, and in the future; not with `expires_delta`.
        spending_limit: In USD, with at most 12 decimals.

    """

    api_key_name: str = Field(min_length=1, max_length=256)
    models: (
        Annotated[
            list[Annotated[str, Field(min_length=1, max_length=256)]],
            Field(min_length=1, max_length=64),
        ]
        | None
    ) = None
    expires_delta: int | None = Field(default=None, ge=1, le=10**10)
    expires_at: int | None = Field(default=None, ge=1, le=10**12)
    spending_limit: Annotated[
        int | None, BeforeValidator(_in_picousd, json_schema_input_type=_UsdIn)
    ] = None

    @model_validator(mode="after")
    def _refuse_two_ends(self) -> ScopedJwtIn:
        if self.expires_delta is not None and self.expires_at is not None:
            raise InvalidRequestError(
                "Give expires_delta or expires_at, not both.", param="expires_at"
            )
        return self

    def to_bounds(self, *, now_ms: int) -> Bounds:
        """Returns the bounds that the body requests."""
        expires_at_ms = None if self.expires_at is None else self.expires_at * 1000
        if self.expires_delta is not None:
            expires_at_ms = now_ms + self.expires_delta * 1000
        models = None if self.models is None else frozenset(self.models)
        return Bounds(models, expires_at_ms, self.spending_limit)


class RequestCostsIn(BodyIn):
    """
    ``POST /v1/request-costs``.

    Args:
        request_ids: Ids of completions, as in their responses.

    """

    request_ids: list[Annotated[str, Field(max_length=256)]] = Field(
        alias="requestIds", max_length=MAX_REQUEST_IDS
    )


async def read_json(request: Request, kind: type[B]) -> B:
    """
    Reads and parses the body of a request.

    Raises:
        InvalidRequestError: It is too long, not JSON, or a field is missing or wrong.

    """
    body = await read_body(request, max_bytes=MAX_BODY_BYTES)
    try:
        # Unlike pydantic's own parser, this one keeps an amount's digits.
        return kind.model_validate(parse_json(body, parse_float=Decimal))
    except ValidationError as error:
        raise first_error(error) from error
