"""Maps errors to HTTP statuses, headers and bodies, for every dialect."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NotRequired

import msgspec
from typing_extensions import TypedDict

from stillhouse import errors
from stillhouse.api.http.usage import (
    AnthropicFinalUsageOut,
    UsageOut,
    anthropic_final_usage_out,
    usage_out,
)
from stillhouse.types.events import Finish


@dataclass(frozen=True, slots=True)
class _Kind:
    status: int
    type: str
    code: str | None


_INVALID = "invalid_request_error"

# Looked up along the error's base classes, so that a new error has its parent's kind.
_KINDS: dict[type[errors.StillhouseError], _Kind] = {
    errors.InvalidRequestError: _Kind(422, _INVALID, None),
    errors.ContextLengthError: _Kind(400, _INVALID, "context_length_exceeded"),
    errors.RequestTooLargeForEngineError: _Kind(400, _INVALID, "context_length_exceeded"),
    errors.QuarantinedRequestError: _Kind(422, _INVALID, "request_quarantined"),
    errors.BodyTooLargeError: _Kind(413, _INVALID, None),
    errors.BodyTooSlowError: _Kind(408, _INVALID, None),
    errors.MalformedRequestError: _Kind(400, _INVALID, None),
    errors.HeadTooLargeError: _Kind(431, _INVALID, None),
    errors.TargetTooLongError: _Kind(414, _INVALID, None),
    errors.HeadTooSlowError: _Kind(408, _INVALID, None),
    errors.UnsupportedFeatureError: _Kind(405, _INVALID, None),
    errors.WrongTaskError: _Kind(400, _INVALID, "wrong_task"),
    errors.NameTakenError: _Kind(409, _INVALID, "name_taken"),
    errors.KeyNotFoundError: _Kind(404, _INVALID, "api_key_not_found"),
    errors.TooManyKeysError: _Kind(409, _INVALID, "too_many_api_keys"),
    errors.AuthenticationError: _Kind(401, _INVALID, "invalid_api_key"),
    errors.PermissionDeniedError: _Kind(403, _INVALID, "permission_denied"),
    errors.ModelNotFoundError: _Kind(404, _INVALID, "model_not_found"),
    errors.InsufficientFundsError: _Kind(402, _INVALID, "insufficient_quota"),
    errors.RateLimitError: _Kind(429, _INVALID, "rate_limit_exceeded"),
    errors.OverloadedError: _Kind(429, _INVALID, "engine_overloaded"),
    errors.IdempotencyMismatchError: _Kind(422, _INVALID, "idempotency_key_reused"),
    errors.IdempotencyConflictError: _Kind(409, _INVALID, "idempotency_in_flight"),
    errors.ModelUnavailableError: _Kind(503, "server_error", "model_unavailable"),
    errors.EngineUnavailableError: _Kind(503, "server_error", "engine_unavailable"),
    errors.EngineCrashedError: _Kind(502, "server_error", "engine_crashed"),
    errors.StoreUnavailableError: _Kind(503, "server_error", "store_unavailable"),
    errors.StillhouseError: _Kind(500, "server_error", "internal_error"),
}

#: Paths below these have Anthropic's envelope.
ANTHROPIC_PREFIXES = ("/anthropic/", "/v1/messages")
_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    409: "invalid_request_error",
    413: "request_too_large",
    422: "invalid_request_error",
    429: "rate_limit_error",
    503: "overloaded_error",
}


class AnthropicErrorOut(TypedDict):
    """What went wrong."""

    type: str
    message: str
    usage: NotRequired[AnthropicFinalUsageOut]


class AnthropicErrorBodyOut(TypedDict):
    """The envelope of every error, as Anthropic's clients parse it."""

    type: Literal["error"]
    error: AnthropicErrorOut
    request_id: str | None


_TIMED = (
    errors.RateLimitError,
    errors.OverloadedError,
    errors.ModelUnavailableError,
    errors.EngineUnavailableError,
)
_SOON_OVER = (
    errors.StoreUnavailableError,
    errors.IdempotencyConflictError,
)


def status_of(error: errors.StillhouseError) -> int:
    """Returns the HTTP status of *error*."""
    return _kind_of(error).status


def headers_of(error: errors.StillhouseError) -> dict[str, str]:
    """Returns the headers of *error*: when to retry, or how to authenticate (RFC 9110)."""
    if isinstance(error, _TIMED):
        return {"Retry-After": str(math.ceil(error.retry_after_s))}
    if isinstance(error, _SOON_OVER):
        return {"Retry-After": "1"}
    if isinstance(error, errors.AuthenticationError):
        return {"WWW-Authenticate": "Bearer"}
    return {}


def body_of(
    error: errors.StillhouseError,
    *,
    path: str = "",
    request_id: str | None = None,
    charged: Finish | None = None,
) -> bytes:
    """
    Encodes *error* for the clients of *path*.

    The body is ``{"error": {"message", "type", "param", "code"}}`` for OpenAI's, and
    ``{"type": "error", "error": {"type", "message"}, "request_id"}`` for Anthropic's.

    Args:
        charged: What was charged despite the error; becomes the usage in the error.

    """
    if path.startswith(ANTHROPIC_PREFIXES):
        return anthropic_body_of(error, request_id=request_id, charged=charged)
    kind = _kind_of(error)
    param = error.param if isinstance(error, errors.InvalidRequestError) else None
    return envelope(error.message, type_=kind.type, param=param, code=kind.code, charged=charged)


def no_route_body(
    message: str, *, status: int, code: str, path: str, request_id: str | None = None
) -> bytes:
    """Encodes an error for a request that no route serves, for the clients of *path*."""
    if path.startswith(ANTHROPIC_PREFIXES):
        return _anthropic_envelope(message, status=status, request_id=request_id)
    return envelope(message, type_=_INVALID, param=None, code=code)


def anthropic_body_of(
    error: errors.StillhouseError,
    *,
    request_id: str | None = None,
    charged: Finish | None = None,
) -> bytes:
    """Encodes *error* in Anthropic's envelope."""
    status = status_of(error)
    return _anthropic_envelope(error.message, status=status, request_id=request_id, charged=charged)


def _anthropic_envelope(
    message: str, *, status: int, request_id: str | None, charged: Finish | None = None
) -> bytes:
    """
    Encodes a message in Anthropic's envelope.

    Source:
        docs.anthropic.com, API, Errors: the type of each status.
    """
    type_ = _ANTHROPIC_TYPES.get(status, "api_error")
    body: AnthropicErrorBodyOut = {
        "type": "error",
        "error": {"type": type_, "message": message},
        "request_id": request_id,
    }
    if charged is not None:
        body["error"]["usage"] = anthropic_final_usage_out(charged)
    return msgspec.json.encode(body)


def envelope(
    message: str,
    *,
    type_: str,
    param: str | None,
    code: str | None,
    charged: Finish | None = None,
) -> bytes:
    """Encodes a message in OpenAI's error envelope."""
    error: dict[str, str | UsageOut | None] = {
        "message": message,
        "type": type_,
        "param": param,
        "code": code,
    }
    if charged is not None:
        # Inside the error, as OpenAI's clients drop what is beside it.
        error["usage"] = usage_out(charged.usage, charged.cost_picousd, charged.reasoning_tokens)
    return msgspec.json.encode({"error": error})


def _kind_of(error: errors.StillhouseError) -> _Kind:
    for ancestor in type(error).__mro__:
        if kind := _KINDS.get(ancestor):
            return kind
    raise AssertionError("the tree's root is in the table. This is a bug.")
