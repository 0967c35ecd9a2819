"""``GET /v1/openai/models``: what is served here, with DeepInfra's metadata."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from stillhouse.money import MICROUSD_PER_USD
from stillhouse.serving.served_model import ServedModel, ServedModels


@dataclass(frozen=True, slots=True)
class ModelList:
    """
    The endpoints that describe models.

    Args:
        created: Unix seconds; when this server began to serve them.

    """

    models: ServedModels
    created: int

    async def list(self, _request: Request) -> Response:
        """Every model loaded here."""
        data = [self._model_out(model) for model in self.models]
        return _json({"object": "list", "data": data})

    async def show(self, request: Request) -> Response:
        """One model by id or alias; ModelNotFoundError when it is not loaded."""
        return _json(self._model_out(self.models.resolve(request.path_params["model"])))

    def _model_out(self, model: ServedModel) -> dict[str, Any]:
        spec = model.chat.spec
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
                "max_tokens": min(model.context_length, spec.max_output_tokens),
                "pricing": {
                    "input_tokens": model.price.input_picousd / MICROUSD_PER_USD,
                    "output_tokens": model.price.output_picousd / MICROUSD_PER_USD,
                    "cache_read_tokens": model.price.cached_input_picousd / MICROUSD_PER_USD,
                },
                "tags": list(spec.tags),
            },
        }


def _json(content: object) -> Response:
    return Response(msgspec.json.encode(content), media_type="application/json")
