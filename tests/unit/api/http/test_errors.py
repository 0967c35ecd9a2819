from __future__ import annotations

import json

import pytest

from stillhouse import errors
from stillhouse.api.http.errors import body_of, headers_of, no_route_body, status_of


def leaves(error: type[errors.StillhouseError]) -> list[type[errors.StillhouseError]]:
    below = error.__subclasses__()
    return [leaf for child in below for leaf in leaves(child)] if below else [error]


@pytest.mark.parametrize("kind", leaves(errors.RequestError))
def test_what_a_caller_can_mend_is_a_4xx(kind):
    """Every leaf under RequestError answers with a 4xx, so that a new one cannot be forgotten."""
    assert 400 <= status_of(kind.__new__(kind)) < 500


@pytest.mark.parametrize(
    ("error", "status", "headers"),
    [
        (errors.OverloadedError("busy", retry_after_s=1.2), 429, {"Retry-After": "2"}),
        (errors.RateLimitError("slow", retry_after_s=3), 429, {"Retry-After": "3"}),
        (errors.EngineUnavailableError("down"), 503, {"Retry-After": "1"}),
        (errors.AuthenticationError("no"), 401, {"WWW-Authenticate": "Bearer"}),
        (errors.InsufficientFundsError("broke"), 402, {}),
        (errors.ServingError("?"), 500, {}),
    ],
)
def test_statuses_and_headers(error, status, headers):
    """Statuses as DeepInfra's clients map them, and when to come back."""
    assert (status, headers) == (status_of(error), headers_of(error))


def test_envelope():
    """The body is OpenAI's envelope, with the field to blame."""
    error = errors.InvalidRequestError("top_p: is 0", param="top_p")

    assert {
        "message": "top_p: is 0",
        "type": "invalid_request_error",
        "param": "top_p",
        "code": None,
    } == json.loads(body_of(error))["error"]


@pytest.mark.parametrize("path", ["/anthropic/v1/messages", "/v1/messages/count_tokens"])
@pytest.mark.parametrize(
    ("error", "type_"),
    [
        (errors.InvalidRequestError("no"), "invalid_request_error"),
        (errors.AuthenticationError("no"), "authentication_error"),
        (errors.InsufficientFundsError("no"), "billing_error"),
        (errors.PermissionDeniedError("no"), "permission_error"),
        (errors.ModelNotFoundError("no"), "not_found_error"),
        (errors.BodyTooLargeError("no"), "request_too_large"),
        (errors.RateLimitError("no", retry_after_s=1), "rate_limit_error"),
        (errors.EngineUnavailableError("no"), "overloaded_error"),
        (errors.EngineCrashedError("no"), "api_error"),
    ],
)
def test_anthropics_envelope(path, error, type_):
    """Below Anthropic's paths an error has Anthropic's type and the request's id."""
    assert {
        "type": "error",
        "error": {"type": type_, "message": "no"},
        "request_id": "0123",
    } == json.loads(body_of(error, path=path, request_id="0123"))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (
            "/anthropic/v1/models",
            {
                "type": "error",
                "error": {"type": "not_found_error", "message": "none"},
                "request_id": "0123",
            },
        ),
        (
            "/v1/model",
            {
                "error": {
                    "message": "none",
                    "type": "invalid_request_error",
                    "param": None,
                    "code": "not_found",
                }
            },
        ),
    ],
)
def test_where_there_is_no_route(path, expected):
    """What no route takes is refused in the envelope of the path's clients."""
    body = no_route_body("none", status=404, code="not_found", path=path, request_id="0123")

    assert expected == json.loads(body)
