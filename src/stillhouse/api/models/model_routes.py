"""The paths that say what is served here, none of which needs a key."""

from __future__ import annotations

from stillhouse.api.endpoints import OPENAI_BASES
from stillhouse.api.http.json_route import JsonRoute
from stillhouse.api.models.live_metrics import LiveMetrics
from stillhouse.api.models.model_cards import ModelCards
from stillhouse.api.models.model_list import ModelList
from stillhouse.api.models.openrouter_models import OpenRouterModels
from stillhouse.telemetry.metrics import Metrics

#: With all that stands below them.
PUBLIC_PREFIXES = (*(f"{base}/models/" for base in OPENAI_BASES), "/models/")
PUBLIC_PATHS = frozenset(
    {*(f"{base}/models" for base in OPENAI_BASES), "/openrouter/models", "/v1/metrics/live"}
)


def model_routes(model_list: ModelList, metrics: Metrics) -> list[JsonRoute]:
    """Every route about models, in the order in which they are tried."""
    cards = ModelCards(model_list.models, model_list.created)
    openrouter = OpenRouterModels(model_list.models, model_list.created)
    return [
        *(JsonRoute(f"{base}/models", model_list.list) for base in OPENAI_BASES),
        *(JsonRoute(f"{base}/models/{{model:path}}", model_list.show) for base in OPENAI_BASES),
        JsonRoute("/models/list", cards.list),
        JsonRoute("/models/featured", cards.list),
        JsonRoute("/models/{model_name:path}/versions", cards.versions),
        JsonRoute("/models/{model_name:path}", cards.show),
        JsonRoute("/openrouter/models", openrouter.list),
        JsonRoute("/v1/metrics/live", LiveMetrics(metrics).show),
    ]
