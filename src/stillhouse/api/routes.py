"""Every path that is served, and the short list of those that need no key."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from stillhouse.accounts.accounts import Accounts
from stillhouse.accounts.keys.admin_key import AdminKey
from stillhouse.api.http import errors as http_errors
from stillhouse.api.http.auth import AuthMiddleware
from stillhouse.api.http.drain import Drain
from stillhouse.api.http.json_route import JsonRoute
from stillhouse.api.http.openapi import OpenApi
from stillhouse.api.models.model_list import ModelList
from stillhouse.api.models.model_routes import PUBLIC_PATHS as MODEL_PATHS
from stillhouse.api.models.model_routes import PUBLIC_PREFIXES, model_routes
from stillhouse.api.operations import METRICS_PATH, operations
from stillhouse.api.probes import Probes
from stillhouse.telemetry.metrics import Metrics

PUBLIC_PATHS = frozenset({"/livez", "/readyz", "/openapi.json"}) | MODEL_PATHS


def create_api(  # noqa: PLR0913  (one argument per room that answers)
    *,
    accounts: Accounts,
    admin_key: AdminKey,
    completion_routes: Sequence[Route],
    model_list: ModelList,
    account_routes: Sequence[Route],
    probes: Probes,
    metrics: Metrics,
    drain: Drain,
    has_public_metrics: bool,
) -> ASGIApp:
    """
    The HTTP face of the service.

    Args:
        has_public_metrics: Serve metrics without a key: for a server that only this machine sees.
            Otherwise the admin key opens them.

    """
    public_paths = PUBLIC_PATHS | {METRICS_PATH} if has_public_metrics else PUBLIC_PATHS
    routes: list[Route] = [
        JsonRoute(METRICS_PATH, probes.exposition),
        JsonRoute("/livez", probes.livez),
        JsonRoute("/readyz", probes.readyz),
        JsonRoute("/openapi.json", OpenApi.of(operations(public_paths)).show),
    ]
    routes += [*model_routes(model_list, metrics), *completion_routes, *account_routes]
    return AuthMiddleware(
        _PathRouter(routes),
        accounts=accounts,
        admin_key=admin_key,
        metrics=metrics,
        drain=drain,
        public_paths=public_paths,
        public_prefixes=PUBLIC_PREFIXES,
        admin_paths={METRICS_PATH},
    )


class _PathRouter:
    """
    A router that finds paths without parameters by their name, and tries the others in turn.

    Args:
        routes: No two of them have the same path.

    """

    def __init__(self, routes: Sequence[Route]) -> None:
        self._by_path = {route.path: route for route in routes if not route.param_convertors}
        self._router = Router(routes, default=_not_found, redirect_slashes=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = self._by_path.get(scope["path"])
        if route is None:
            await self._router(scope, receive, send)
        else:
            scope["path_params"] = {}
            await route.handle(scope, receive, send)


async def _not_found(scope: Scope, receive: Receive, send: Send) -> None:
    body = http_errors.no_route_body(
        f"There is no {scope['method']} {scope['path']} here",
        status=404,
        code="not_found",
        path=scope["path"],
        request_id=scope["request_id"],
    )
    await Response(body, 404, media_type="application/json")(scope, receive, send)
