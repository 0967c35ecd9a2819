"""Routes that declare their operations, and the router that finds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from stillhouse.api.http import errors as http_errors
from stillhouse.api.http.operation import Access, Endpoint, Operation, operation_of

# Writes a decimal amount in USD as a JSON number with all of its digits.
_EXACT_ENCODER = msgspec.json.Encoder(decimal_format="number")


class ApiRoute(Route):
    """
    A route with declared operations, and whose 405 has the API's error envelope.

    Args:
        operations: By method.
        tag: The group of its operations in the OpenAPI description.

    """

    def __init__(
        self,
        path: str,
        endpoint: Endpoint | ASGIApp,
        operations: Mapping[str, Operation],
        *,
        tag: str,
        access: Access,
    ) -> None:
        super().__init__(path, endpoint, methods=list(operations))
        self.operations = operations
        self.tag = tag
        self.access = access

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves the request, or names the methods that the route has."""
        if self.methods is None or scope["method"] in self.methods:
            await super().handle(scope, receive, send)
            return
        allowed = ", ".join(sorted(self.methods))
        message = f"{scope['path']} cannot {scope['method']}; it can {allowed}"
        headers = {"Allow": allowed}
        refusal = _refusal(scope, 405, "method_not_allowed", message, headers)
        await refusal(scope, receive, send)


def endpoint_route(path: str, *, tag: str, access: Access, **endpoints: Endpoint) -> ApiRoute:
    """Returns a route with an endpoint for each of its methods."""

    async def dispatch(request: Request) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        return await endpoints[method](request)

    operations = {method: operation_of(endpoint) for method, endpoint in endpoints.items()}
    return ApiRoute(path, dispatch, operations, tag=tag, access=access)


class ApiRouter:
    """
    Finds a path without parameters in a table, and tries the other routes in order.

    Args:
        routes: No two of them have the same path.

    """

    def __init__(self, routes: Sequence[ApiRoute]) -> None:
        self._by_path = {route.path: route for route in routes if not route.param_convertors}
        self._router = Router(routes, default=_not_found, redirect_slashes=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request; a path that no route has gets a 404."""
        route = self._by_path.get(scope["path"])
        if route is None:
            await self._router(scope, receive, send)
        else:
            scope["path_params"] = {}
            await route.handle(scope, receive, send)


async def _not_found(scope: Scope, receive: Receive, send: Send) -> None:
    message = f"There is no {scope['method']} {scope['path']} here"
    await _refusal(scope, 404, "not_found", message)(scope, receive, send)


def _refusal(
    scope: Scope, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
) -> Response:
    body = http_errors.no_route_body(
        message, status=status, code=code, path=scope["path"], request_id=scope["request_id"]
    )
    return Response(body, status, headers=headers, media_type="application/json")


def json_response(content: object) -> Response:
    """Returns a 200 whose body is *content*."""
    return Response(msgspec.json.encode(content), media_type="application/json")


def private_json_response(content: object) -> Response:
    """Returns a 200 whose body is *content*, and that no cache keeps: parts of it are secret."""
    headers = {"Cache-Control": "no-store"}
    return Response(_EXACT_ENCODER.encode(content), headers=headers, media_type="application/json")
