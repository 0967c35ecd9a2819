"""``GET /v1/openai/models``: the served models, with DeepInfra's metadata."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NotRequired

from starlette.requests import Request
from starlette.responses import Response
from typing_extensions import TypedDict

from stillhouse.api.http.operation import Operation, Query, declares
from stillhouse.api.http.routing import json_response
from stillhouse.api.models.model_tags import tags_of
from stillhouse.errors import InvalidRequestError
from stillhouse.money import MICROUSD_PER_USD
from stillhouse.serving.registry.registry import ModelRegistry
from stillhouse.serving.registry.served_model import ServedModel
from stillhouse.serving.registry.states import ModelState

#: Every model has metadata, so this filter removes none.
WITH_META = "with_meta"


class PricingOut(TypedDict):
    """USD per million tokens."""

    input_tokens: float
    output_tokens: float
    cache_read_tokens: float


class MetadataOut(TypedDict):
    """A model's abilities; `context_length` counts prompt and response."""

    description: str
    context_length: int
    max_tokens: int
    pricing: PricingOut
    tags: list[str]


class ModelOut(TypedDict):
    """One model."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    root: str
    parent: None
    metadata: MetadataOut


class UnavailableModelOut(TypedDict):
    """A configured model that does not serve now; `reason` says why it failed."""

    id: str
    object: Literal["model"]
    status: ModelState
    reason: str


class ModelListOut(TypedDict):
    """
    All models that serve.

    Clients take everything in `data` for usable, so models that do not serve are listed apart.
    """

    object: Literal["list"]
    data: list[ModelOut]
    unavailable: NotRequired[list[UnavailableModelOut]]


#: Serving models are in `data`; a stopped one is unknown to clients.
_UNLISTED = frozenset({ModelState.SERVING, ModelState.STOPPED})


@dataclass(frozen=True, slots=True)
class ModelList:
    """
    The endpoints that describe models to OpenAI's clients.

    Args:
        created: Unix seconds; when this server started to serve the models.

    """

    models: ModelRegistry
    created: int

    @declares(
        Operation(
            "The models that are served",
            response=ModelListOut,
            queries=(
                Query("filter", "models with metadata; all have it", "^with_meta$"),
                Query("sort_by", "accepted; the order is always by id"),
            ),
            statuses=(422,),
        )
    )
    async def list_all(self, request: Request) -> Response:
        """
        Returns all models by id, whatever ``sort_by`` is.

        Raises:
            InvalidRequestError: ``filter`` is not one of DeepInfra's.

        """
        requested = request.query_params.get("filter", WITH_META)
        if requested != WITH_META:
            raise InvalidRequestError(
                f"filter: right would be {WITH_META}, got {requested[:80]!r}", param="filter"
            )
        data = sorted((self._model_out(model) for model in self.models), key=lambda m: m["id"])
        listed: ModelListOut = {"object": "list", "data": data}
        if unavailable := self._unavailable():
            listed["unavailable"] = unavailable
        return json_response(listed)

    @declares(Operation("One model", response=ModelOut, statuses=(404,)))
    async def show(self, request: Request) -> Response:
        """Returns a model by id or alias; ModelNotFoundError if there is none."""
        return json_response(
            self._model_out(self.models.resolve_model(request.path_params["model"]))
        )

    def _unavailable(self) -> list[UnavailableModelOut]:
        return [
            {
                "id": status.model_id,
                "object": "model",
                "status": status.state,
                "reason": status.public_reason,
            }
            for status in self.models.statuses
            if status.state not in _UNLISTED
        ]

    def _model_out(self, model: ServedModel) -> ModelOut:
        spec = model.spec
        return {
            "id": spec.id,
            "object": "model",
            "created": self.created,
            "owned_by": spec.owner,
            "root": spec.id,
            "parent": None,
            "metadata": {
                "description": spec.description,
                "context_length": model.context_length,
                "max_tokens": max_output_tokens(model),
                "pricing": {
                    "input_tokens": model.price.input_picousd / MICROUSD_PER_USD,
                    "output_tokens": model.price.output_picousd / MICROUSD_PER_USD,
                    "cache_read_tokens": model.price.cached_input_picousd / MICROUSD_PER_USD,
                },
                "tags": tags_of(model.spec),
            },
        }


def max_output_tokens(model: ServedModel) -> int:
    """Returns the most tokens of a response to a request without a limit."""
    return min(model.context_length, model.spec.max_output_tokens)
