from __future__ import annotations

import json

import pytest

from stillhouse import errors
from stillhouse.api.error_body import body_of, headers_of, status_of


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
