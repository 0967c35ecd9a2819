"""``GET /models/...``: DeepInfra's catalogue; fields without a true value are null."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from typing_extensions import TypedDict

from stillhouse.api.deepinfra.request import VERSION, InferenceIn
from stillhouse.api.deepinfra.response import InferenceOut
from stillhouse.api.http.operation import Operation, declares
from stillhouse.api.http.routing import json_response
from stillhouse.api.models.model_list import max_output_tokens
from stillhouse.api.models.model_tags import tags_of
from stillhouse.billing.price import Price
from stillhouse.money import usd
from stillhouse.serving.registry.registry import ModelRegistry
from stillhouse.serving.registry.served_model import ServedModel

_TEXT_GENERATION: Literal["text-generation"] = "text-generation"
_PICOUSD_PER_CENT = 10**10
_PER_MILLION_TOKENS = 10**6


class TokenPricingOut(TypedDict):
    """
    Cents per token.

    A cached token costs an input token's price times `rate_per_input_token_cached`, which is null
    if input is free.
    """

    type: Literal["tokens"]
    cents_per_input_token: float
    cents_per_output_token: float
    rate_per_input_token_cached: float | None
    short: str


class ModelCardOut(TypedDict):
    """A model of the catalogue; `max_tokens` is its context length, as at DeepInfra."""

    model_name: str
    type: Literal["text-generation"]
    reported_type: Literal["text-generation"]
    description: str
    cover_img_url: None
    tags: list[str]
    pricing: TokenPricingOut
    max_tokens: int
    replaced_by: None
    deprecated: None
    quantization: str | None
    mmlu: None
    expected: None
    private: int
    is_partner: bool


class ModelInfoOut(ModelCardOut):
    """A model of the catalogue with the JSON Schemas of its native endpoint."""

    version: str | None
    owner: str
    public: bool
    featured: bool
    max_output_tokens: int
    curl_inv: str
    in_schema: dict[str, Any]
    out_schema: dict[str, Any]


class VersionOut(TypedDict):
    """A version of a model; `uploaded_at` is when this server started to serve it."""

    model_name: str
    version: str
    uploaded_at: int


@dataclass(frozen=True, slots=True)
class ModelCards:
    """
    The endpoints that describe models to DeepInfra's clients.

    Args:
        created: Unix seconds; when this server started to serve the models.

    """

    models: ModelRegistry
    created: int

    @declares(
        Operation(
            "The models that are served, in DeepInfra's catalogue", response=list[ModelCardOut]
        )
    )
    async def list_all(self, _request: Request) -> Response:
        """Returns all served models, by name."""
        cards = [_card(model) for model in self.models]
        return json_response(sorted(cards, key=lambda card: card["model_name"]))

    @declares(
        Operation("The same as /models/list: all models are featured", response=list[ModelCardOut])
    )
    async def featured(self, request: Request) -> Response:
        """Returns the same as `list_all`: all models are featured."""
        return await self.list_all(request)

    @declares(
        Operation(
            "One model, with the schemas of its native endpoint",
            response=ModelInfoOut,
            queries=(VERSION,),
            statuses=(404,),
        )
    )
    async def show(self, request: Request) -> Response:
        """Returns a model by name or alias; a 404 if it or its version is not served."""
        version = request.query_params.get("version")
        name = request.path_params["model_name"]
        model = self.models.resolve_model(f"{name}:{version}" if version else name)
        return json_response(_info(model, base_url=str(request.base_url)))

    @declares(Operation("A model's versions", response=list[VersionOut], statuses=(404,)))
    async def versions(self, request: Request) -> Response:
        """Returns the version that is served, if the model has one."""
        spec = self.models.resolve_model(request.path_params["model_name"]).spec
        versions: list[VersionOut] = []
        if spec.version is not None:
            versions.append(
                {
                    "model_name": spec.id,
                    "version": spec.version,
                    "uploaded_at": self.created,
                }
            )
        return json_response(versions)


def _card(model: ServedModel) -> ModelCardOut:
    spec = model.spec
    return {
        "model_name": spec.id,
        "type": _TEXT_GENERATION,
        "reported_type": _TEXT_GENERATION,
        "description": spec.description,
        "cover_img_url": None,
        "tags": tags_of(model.spec),
        "pricing": _pricing(model.price),
        "max_tokens": model.context_length,
        "replaced_by": None,
        "deprecated": None,
        "quantization": spec.quantization,
        "mmlu": None,
        "expected": None,
        "private": 0,
        "is_partner": False,
    }


def _info(model: ServedModel, *, base_url: str) -> ModelInfoOut:
    spec = model.spec
    return {
        **_card(model),
        "version": spec.version,
        "owner": spec.owner,
        "public": True,
        "featured": True,
        "max_output_tokens": max_output_tokens(model),
        "curl_inv": (
            f'curl {base_url}v1/inference/{spec.id} -H "Authorization: Bearer $DEEPINFRA_TOKEN" '
            """-H "Content-Type: application/json" -d '{"input": "I have this dream"}'"""
        ),
        "in_schema": InferenceIn.model_json_schema(),
        "out_schema": msgspec.json.schema(InferenceOut),
    }


def _pricing(price: Price) -> TokenPricingOut:
    return {
        "type": "tokens",
        "cents_per_input_token": price.input_picousd / _PICOUSD_PER_CENT,
        "cents_per_output_token": price.output_picousd / _PICOUSD_PER_CENT,
        "rate_per_input_token_cached": (
            price.cached_input_picousd / price.input_picousd if price.input_picousd else None
        ),
        "short": f"{_usd_per_million(price.input_picousd)}/"
        f"{_usd_per_million(price.output_picousd)} in/out Mtoken",
    }


def _usd_per_million(picousd_per_token: int) -> str:
    """Formats a price exactly, with at least two decimals."""
    amount = usd(picousd_per_token * _PER_MILLION_TOKENS)
    decimals = len(f"{amount:f}".partition(".")[2])
    return f"${amount:.{max(decimals, 2)}f}"
