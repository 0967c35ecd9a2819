"""Routes that refuse a method as everything here is refused: with a body that says so."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from stillhouse.api.http import errors as http_errors

Endpoint = Callable[[Request], Awaitable[Response]]


class JsonRoute(Route):
    """A route whose 405 has OpenAI's envelope."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request, or name the methods that would be served."""
        if self.methods is None or scope["method"] in self.methods:
            await super().handle(scope, receive, send)
            return
        allowed = ", ".join(sorted(self.methods))
        message = f"{scope['path']} cannot {scope['method']}; it can {allowed}"
        body = http_errors.no_route_body(
            message,
            status=405,
            code="method_not_allowed",
            path=scope["path"],
            request_id=scope["request_id"],
        )
        refusal = Response(body, 405, headers={"Allow": allowed}, media_type="application/json")
        await refusal(scope, receive, send)


def resource(path: str, **endpoints: Endpoint) -> JsonRoute:
    """One path with an endpoint for each of its methods."""

    async def serve(request: Request) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        return await endpoints[method](request)

    return JsonRoute(path, serve, methods=list(endpoints))
