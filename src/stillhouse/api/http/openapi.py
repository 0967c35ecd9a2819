"""``GET /openapi.json``: the whole API as an OpenAPI 3.1 document, made from the schemas in use."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NotRequired

import msgspec
from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaMode
from starlette.requests import Request
from starlette.responses import Response
from typing_extensions import TypedDict

import stillhouse
from stillhouse.api.http import idempotency_header
from stillhouse.api.openai.chat_response import UsageOut

_REF = "#/components/schemas/{model}"
_PATH_PARAMETER = re.compile(r"{(\w+)}")
_ARGUMENT = re.compile(r"^    (\w+): ((?:.|\n(?= {8}))+)", re.MULTILINE)
#: What stands in a path as one piece; a model's name may hold slashes.
_IN_ONE_PIECE = frozenset({"api_token"})
_TEXT: Mapping[str, Any] = {"type": "string"}


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
    """A parameter in the query; `pattern` is a regular expression for all of it."""

    name: str
    description: str
    pattern: str | None = None
    is_required: bool = False


@dataclass(frozen=True, slots=True)
class Operation:
    """
    What one method of one path does.

    Args:
        path: With its parameters in braces.
        body: The schema that reads the body; None takes none.
        answer: The type of the answer; None where it is not JSON.
        answer_statuses: Those with which the answer comes.
        event: The type of each event, where it can answer with a stream.
        error: The envelope of its errors.
        statuses: Of its refusals.
        forms: Content types of the body, besides JSON.
        has_idempotency_key: Whether it is done once, however often it is asked for.

    """

    method: Literal["get", "post", "delete"]
    path: str
    summary: str
    answer: Any = None
    answer_statuses: tuple[int, ...] = (200,)
    body: Any = None
    event: Any = None
    error: Any = ErrorBodyOut
    queries: tuple[Query, ...] = ()
    statuses: tuple[int, ...] = ()
    forms: tuple[str, ...] = ()
    has_idempotency_key: bool = False
    is_public: bool = False


def openapi_document(operations: Sequence[Operation]) -> dict[str, Any]:
    """
    The document that describes *operations*.

    Source:
        OpenAPI Specification 3.1.0.
    """
    schemas, definitions = _schemas_of(operations)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method] = _describe(operation, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "stillhouse",
            "version": stillhouse.__version__,
            "description": "Your own DeepInfra: metered, OpenAI-compatible inference.",
        },
        "security": [{"bearer": []}, {"xiApiKey": []}, {"xApiKey": []}],
        "paths": paths,
        "components": {
            "schemas": {name: _emitted(schema) for name, schema in definitions.items()},
            "headers": _HEADERS,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "xiApiKey": {"type": "apiKey", "in": "header", "name": "xi-api-key"},
                "xApiKey": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
    }


@dataclass(frozen=True, slots=True)
class OpenApi:
    """The endpoint: the document, encoded once."""

    body: bytes

    @classmethod
    def of(cls, operations: Sequence[Operation]) -> OpenApi:
        """The endpoint that describes *operations*."""
        return cls(msgspec.json.encode(openapi_document(operations)))

    async def show(self, _request: Request) -> Response:
        """The document."""
        return Response(self.body, media_type="application/json")


Schemas = Mapping[tuple[type, JsonSchemaMode], dict[str, Any]]


def _schemas_of(operations: Iterable[Operation]) -> tuple[Schemas, dict[str, Any]]:
    wanted: dict[tuple[Any, JsonSchemaMode], TypeAdapter[Any]] = {}
    for operation in operations:
        if operation.body is not None:
            wanted[operation.body, "validation"] = TypeAdapter(operation.body)
        for kind in (operation.answer, operation.event, operation.error):
            if kind is not None:
                wanted[kind, "serialization"] = TypeAdapter(kind)
    inputs = [(kind, mode, adapter) for (kind, mode), adapter in wanted.items()]
    schemas, definitions = TypeAdapter.json_schemas(inputs, ref_template=_REF)
    return schemas, definitions.get("$defs", {})


def _emitted(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema whose docstring's arguments stand with the properties that they are about."""
    said, _, rest = inspect.cleandoc(schema.get("description", "")).partition("\n\nArgs:\n")
    arguments = {name: " ".join(text.split()) for name, text in _ARGUMENT.findall(rest)}
    properties = {
        name: {**about, "description": _plain(arguments[name])} if name in arguments else about
        for name, about in schema.get("properties", {}).items()
    }
    told = schema | ({"description": _plain(said)} if said else {})
    return told | ({"properties": properties} if properties else {})


def _plain(text: str) -> str:
    return text.replace("``", "`")


def _describe(operation: Operation, schemas: Schemas) -> dict[str, Any]:
    described: dict[str, Any] = {
        "summary": operation.summary,
        "parameters": _parameters(operation),
        "responses": _responses(operation, schemas),
    }
    if operation.body is not None:
        schema = {"schema": schemas[operation.body, "validation"]}
        kinds = ("application/json", *operation.forms)
        described["requestBody"] = {"required": True, "content": dict.fromkeys(kinds, schema)}
    if operation.is_public:
        described["security"] = []
    return described


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    return [
        *(_path_parameter(name) for name in _PATH_PARAMETER.findall(operation.path)),
        *(_query_parameter(query) for query in operation.queries),
        *([_IDEMPOTENCY_KEY] if operation.has_idempotency_key else ()),
    ]


def _path_parameter(name: str) -> dict[str, Any]:
    parameter = {"name": name, "in": "path", "required": True, "schema": {**_TEXT, "minLength": 1}}
    if name in _IN_ONE_PIECE:
        return parameter
    return {**parameter, "description": "Its slashes may stand as they are, or as %2F."}


def _query_parameter(query: Query) -> dict[str, Any]:
    return {
        "name": query.name,
        "in": "query",
        "description": query.description,
        "required": query.is_required,
        "schema": {**_TEXT, "pattern": query.pattern} if query.pattern else _TEXT,
    }


_IDEMPOTENCY_KEY = {
    "name": idempotency_header.NAME,
    "in": "header",
    "description": "The client's own name for the request: repeated, it gets the same answer.",
    "required": False,
    "schema": {
        **_TEXT,
        "minLength": 1,
        "maxLength": idempotency_header.MAX_LENGTH,
        "pattern": "^[!-~]([ -~]*[!-~])?$",
    },
}

_HEADERS = {
    "x-request-id": {"description": "The request's own id.", "schema": _TEXT},
    "Retry-After": {"description": "When to come back, in seconds.", "schema": _TEXT},
    "WWW-Authenticate": {"description": "How to authenticate: Bearer.", "schema": _TEXT},
    "Idempotent-Replayed": {
        "description": "true where the answer was given before.",
        "schema": _TEXT,
    },
}
_HEADERS_OF = {
    401: ("WWW-Authenticate",),
    409: ("Retry-After",),
    429: ("Retry-After",),
    503: ("Retry-After",),
}


def _headers(*names: str) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in ("x-request-id", *names)}


def _responses(operation: Operation, schemas: Schemas) -> dict[str, Any]:
    replayed = ["Idempotent-Replayed"] if operation.has_idempotency_key else []
    answer = {
        "description": "OK",
        "headers": _headers(*replayed),
        "content": _content(operation, schemas),
    }
    content = {"application/json": {"schema": schemas[operation.error, "serialization"]}}
    refusals = {
        str(status): {
            "description": "refused",
            "headers": _headers(*_HEADERS_OF.get(status, ())),
            "content": content,
        }
        for status in (*operation.statuses, 500)
    }
    return {str(status): answer for status in operation.answer_statuses} | refusals


def _content(operation: Operation, schemas: Schemas) -> dict[str, Any]:
    if operation.answer is None:
        return {"text/plain": {"schema": _TEXT}}
    content = {"application/json": {"schema": schemas[operation.answer, "serialization"]}}
    if operation.event is None:
        return content
    # OpenAPI 3.1 has no word for the events of a stream. As 3.2 does, this describes each of them.
    data = {
        **_TEXT,
        "contentMediaType": "application/json",
        "contentSchema": schemas[operation.event, "serialization"],
    }
    event = {
        "type": "object",
        "description": "One event of the stream.",
        "properties": {"event": _TEXT, "data": data},
        "required": ["data"],
    }
    return {**content, "text/event-stream": {"schema": event}}
