"""The routes that list and describe the models; none of them needs a key."""

from __future__ import annotations

from functools import partial

from stillhouse.api.completions.endpoint_spec import OPENAI_BASES
from stillhouse.api.http.operation import Access
from stillhouse.api.http.routing import ApiRoute, endpoint_route
from stillhouse.api.models.live_metrics import LiveMetrics
from stillhouse.api.models.model_cards import ModelCards
from stillhouse.api.models.model_list import ModelList
from stillhouse.api.models.openrouter_models import OpenRouterModels
from stillhouse.telemetry.metrics import Metrics


def model_routes(model_list: ModelList, metrics: Metrics) -> list[ApiRoute]:
    """Returns every route about models, in the order in which the router tries them."""
    cards = ModelCards(model_list.models, model_list.created)
    openrouter = OpenRouterModels(model_list.models, model_list.created)
    route = partial(endpoint_route, tag="Models", access=Access.PUBLIC)
    return [
        *(route(f"{base}/models", GET=model_list.list_all) for base in OPENAI_BASES),
        *(route(f"{base}/models/{{model:path}}", GET=model_list.show) for base in OPENAI_BASES),
        route("/models/list", GET=cards.list_all),
        route("/models/featured", GET=cards.featured),
        route("/models/{model_name:path}/versions", GET=cards.versions),
        route("/models/{model_name:path}", GET=cards.show),
        route("/openrouter/models", GET=openrouter.list_all),
        route("/v1/metrics/live", GET=LiveMetrics(metrics).show),
    ]
