"""The HTTP application: collects the routes that are served, and guards them."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.types import ASGIApp

from stillhouse.accounts.accounts import Accounts
from stillhouse.accounts.keys.admin_key import AdminKey
from stillhouse.api.http.access import PathAccess
from stillhouse.api.http.auth import AuthMiddleware
from stillhouse.api.http.drain import Drain
from stillhouse.api.http.openapi import openapi_route
from stillhouse.api.http.operation import Access
from stillhouse.api.http.routing import ApiRoute, ApiRouter, endpoint_route
from stillhouse.api.probes import Probes
from stillhouse.telemetry.metrics import Metrics


def probe_routes(probes: Probes, *, has_public_metrics: bool) -> list[ApiRoute]:
    """
    Returns the routes for monitors.

    Args:
        has_public_metrics: Serve metrics without a key: for a server that only this machine can
            reach. Otherwise they need the admin key.

    """
    metrics_access = Access.PUBLIC if has_public_metrics else Access.ADMIN
    return [
        endpoint_route("/livez", tag="Monitoring", access=Access.PUBLIC, GET=probes.livez),
        endpoint_route("/readyz", tag="Monitoring", access=Access.PUBLIC, GET=probes.readyz),
        endpoint_route("/metrics", tag="Monitoring", access=metrics_access, GET=probes.exposition),
    ]


def create_api(
    routes: Sequence[ApiRoute],
    *,
    accounts: Accounts,
    admin_key: AdminKey,
    metrics: Metrics,
    drain: Drain,
) -> ASGIApp:
    """Returns the ASGI application that serves *routes* and their OpenAPI description."""
    routes = [*routes, openapi_route(routes)]
    return AuthMiddleware(
        ApiRouter(routes),
        PathAccess(routes),
        accounts=accounts,
        admin_key=admin_key,
        metrics=metrics,
        drain=drain,
    )
