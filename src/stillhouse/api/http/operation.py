"""Operations: what an endpoint declares for the OpenAPI description."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, NotRequired, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from typing_extensions import TypedDict

from stillhouse.api.http.usage import UsageOut

Endpoint = Callable[[Request], Awaitable[Response]]
E = TypeVar("E", bound=Callable[..., Awaitable[Response]])

_BODY_STATUSES = (408, 413, 422)


class Access(Enum):
    """Which credential opens a route."""

    #: None is needed.
    PUBLIC = auto()
    #: An API key or a scoped token.
    INFERENCE = auto()
    #: An API key; what belongs to an account is hidden from scoped tokens.
    ACCOUNT = auto()
    #: The operator's admin key.
    ADMIN = auto()


_ACCESS_STATUSES = {
    Access.PUBLIC: (),
    Access.INFERENCE: (401, 429, 503),
    Access.ACCOUNT: (401, 403, 429, 503),
    Access.ADMIN: (401, 403, 429, 503),
}


class ErrorOut(TypedDict):
    """What went wrong; `param` names the field to blame."""

    message: str
    type: str
    param: str | None
    code: str | None
    usage: NotRequired[UsageOut]


class ErrorBodyOut(TypedDict):
    """The envelope of every error, as OpenAI's clients parse it."""

    error: ErrorOut


@dataclass(frozen=True, slots=True)
class Query:
    """A query parameter; `pattern` is a regular expression for the whole value."""

    name: str
    description: str
    pattern: str | None = None
    is_required: bool = False


@dataclass(frozen=True, slots=True)
class Operation:
    """
    What one method of a route does.

    Args:
        response: The type of the response; None if it is not JSON.
        response_statuses: The statuses with which the response comes.
        body: The schema that parses the request's body; None if there is no body.
        event: The type of each event, if the response can be a stream.
        error: The envelope of errors.
        statuses: The statuses of refusals, besides those of the route's access and of its body.
        forms: Content types of the body, besides JSON.
        has_idempotency_key: Whether a repeated request with the same key gets the same response.

    """

    summary: str
    response: Any = None
    response_statuses: tuple[int, ...] = (200,)
    body: Any = None
    event: Any = None
    error: Any = ErrorBodyOut
    queries: tuple[Query, ...] = ()
    statuses: tuple[int, ...] = ()
    forms: tuple[str, ...] = ()
    has_idempotency_key: bool = False

    def refusals(self, access: Access) -> tuple[int, ...]:
        """Returns every status with which the operation can be refused on a route."""
        body_statuses = _BODY_STATUSES if self.body is not None else ()
        return tuple(sorted({*_ACCESS_STATUSES[access], *body_statuses, *self.statuses, 500}))


def declares(operation: Operation) -> Callable[[E], E]:
    """Attaches an operation to the endpoint that it decorates; `operation_of` returns it."""

    def declare(endpoint: E) -> E:
        endpoint.__dict__["operation"] = operation
        return endpoint

    return declare


def operation_of(endpoint: object) -> Operation:
    """
    Returns the operation that an endpoint declares.

    Raises:
        TypeError: It declares none, so that the OpenAPI description would not have it.

    """
    declared = getattr(endpoint, "operation", None)
    if not isinstance(declared, Operation):
        raise TypeError(f"{endpoint!r} declares no operation. This is a bug.")
    return declared
