"""Builds every route of the service, without its backends."""

from __future__ import annotations

from typing import Any, NamedTuple

from stillhouse.api.account.account_routes import account_routes
from stillhouse.api.completion_routes import completion_routes
from stillhouse.api.http.openapi import openapi_route
from stillhouse.api.http.operation import Operation
from stillhouse.api.http.routing import ApiRoute
from stillhouse.api.models.model_list import ModelList
from stillhouse.api.models.model_routes import model_routes
from stillhouse.api.probes import Probes
from stillhouse.api.routes import probe_routes

_NOTHING: Any = None


class Served(NamedTuple):
    """An operation, its path and its method."""

    method: str
    path: str
    route: ApiRoute
    operation: Operation


def api_routes(*, has_public_metrics: bool = False) -> list[ApiRoute]:
    """Returns the routes of a server."""
    probes = Probes(*[_NOTHING] * 5)
    routes = [
        *completion_routes(_NOTHING, _NOTHING, count_limits=_NOTHING, keep_alive_s=1),
        *model_routes(ModelList(_NOTHING, created=0), _NOTHING),
        *account_routes(
            accounts=_NOTHING,
            statements=_NOTHING,
            clock=_NOTHING,
            rate_limit=1,
            tpm_rate_limit=None,
        ),
        *probe_routes(probes, has_public_metrics=has_public_metrics),
    ]
    return [*routes, openapi_route(routes)]


def operations_of(routes: list[ApiRoute]) -> list[Served]:
    """Returns the operations of all routes."""
    return [
        Served(method.lower(), route.path_format, route, operation)
        for route in routes
        for method, operation in route.operations.items()
    ]


OPERATIONS = operations_of(api_routes())
