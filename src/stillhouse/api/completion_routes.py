"""The routes of every endpoint that generates completions or counts tokens."""

from __future__ import annotations

from collections.abc import Iterator

from starlette.types import ASGIApp

from stillhouse.api.anthropic import messages
from stillhouse.api.bodies.body_reader import BodyReader
from stillhouse.api.completions.endpoint import CompletionEndpoint
from stillhouse.api.completions.endpoint_spec import EndpointSpec, TokenCountSpec
from stillhouse.api.completions.token_count import TokenCountEndpoint
from stillhouse.api.deepinfra import inference
from stillhouse.api.http.operation import Access
from stillhouse.api.http.routing import ApiRoute
from stillhouse.api.openai import chat_completions, text_completions
from stillhouse.api.responses import responses
from stillhouse.serving.admission.rate_limits import RateLimiter
from stillhouse.serving.completions import Completions

ENDPOINTS: tuple[EndpointSpec, ...] = (
    chat_completions.ENDPOINT,
    text_completions.ENDPOINT,
    inference.ENDPOINT,
    messages.ENDPOINT,
    responses.ENDPOINT,
)
TOKEN_COUNT_ENDPOINTS: tuple[TokenCountSpec, ...] = (
    messages.TOKEN_COUNT_ENDPOINT,
    responses.TOKEN_COUNT_ENDPOINT,
)


def completion_routes(
    completions: Completions, bodies: BodyReader, *, count_limits: RateLimiter, keep_alive_s: float
) -> list[ApiRoute]:
    """
    Returns a route for each path of each endpoint.

    Args:
        count_limits: Bound how often and how much each account may count tokens.
        keep_alive_s: Longest silence in a stream.

    """
    return [
        route
        for spec in ENDPOINTS
        for route in _routes_of(
            spec,
            CompletionEndpoint(completions, bodies, spec.id_prefix, spec.read, keep_alive_s),
        )
    ] + [
        route
        for count in TOKEN_COUNT_ENDPOINTS
        for route in _routes_of(
            count, TokenCountEndpoint(completions, bodies, count_limits, count.read, count.write)
        )
    ]


def _routes_of(spec: EndpointSpec | TokenCountSpec, endpoint: ASGIApp) -> Iterator[ApiRoute]:
    for path in spec.paths:
        yield ApiRoute(
            path, endpoint, {"POST": spec.operation}, tag=spec.tag, access=Access.INFERENCE
        )
