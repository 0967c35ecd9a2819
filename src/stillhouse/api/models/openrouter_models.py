"""``GET /openrouter/models``: the served models, in OpenRouter's format for providers."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from typing_extensions import TypedDict

from stillhouse.api.http.operation import Operation, declares
from stillhouse.api.http.routing import json_response
from stillhouse.api.models.model_list import max_output_tokens
from stillhouse.api.models.model_tags import tags_of
from stillhouse.money import usd
from stillhouse.serving.registry.registry import ModelRegistry
from stillhouse.serving.registry.served_model import ServedModel

_SAMPLING = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "frequency_penalty",
    "presence_penalty",
    "repetition_penalty",
    "stop",
    "seed",
    "max_tokens",
    "logit_bias",
)
#: Features of every model, and those that a tag declares.
_FEATURES = ("json_mode", "structured_outputs", "logprobs")
_FEATURES_OF_TAGS = ("reasoning", "tools")


class OpenRouterPricingOut(TypedDict):
    """USD per token, as text, so that nothing is rounded."""

    prompt: str
    completion: str
    input_cache_read: str


class OpenRouterModelOut(TypedDict):
    """One model."""

    id: str
    name: str
    created: int
    description: str
    input_modalities: list[str]
    output_modalities: list[str]
    quantization: str | None
    context_length: int
    max_output_length: int
    pricing: OpenRouterPricingOut
    supported_sampling_parameters: list[str]
    supported_features: list[str]


class OpenRouterModelListOut(TypedDict):
    """All models."""

    data: list[OpenRouterModelOut]


@dataclass(frozen=True, slots=True)
class OpenRouterModels:
    """
    The endpoint that lists models for OpenRouter.

    Args:
        created: Unix seconds; when this server started to serve the models.

    """

    models: ModelRegistry
    created: int

    @declares(
        Operation("The served models, in OpenRouter's format", response=OpenRouterModelListOut)
    )
    async def list_all(self, _request: Request) -> Response:
        """
        Returns all served models.

        Source:
            openrouter.ai, Provider integration, List models endpoint.
        """
        listed: OpenRouterModelListOut = {"data": [self._model_out(m) for m in self.models]}
        return json_response(listed)

    def _model_out(self, model: ServedModel) -> OpenRouterModelOut:
        spec, price = model.spec, model.price
        tags = tags_of(spec)
        return {
            "id": spec.id,
            "name": spec.id,
            "created": self.created,
            "description": spec.description,
            "input_modalities": ["text"],
            "output_modalities": ["text"],
            "quantization": spec.quantization,
            "context_length": model.context_length,
            "max_output_length": max_output_tokens(model),
            "pricing": {
                "prompt": f"{usd(price.input_picousd):f}",
                "completion": f"{usd(price.output_picousd):f}",
                "input_cache_read": f"{usd(price.cached_input_picousd):f}",
            },
            "supported_sampling_parameters": list(_SAMPLING),
            "supported_features": [
                *_FEATURES,
                *(tag for tag in _FEATURES_OF_TAGS if tag in tags),
            ],
        }
