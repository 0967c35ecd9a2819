"""``GET /openapi.json``: an OpenAPI 3.1 document, built from the served routes."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaMode
from starlette.requests import Request
from starlette.responses import Response

import stillhouse
from stillhouse.api.http import idempotency_header
from stillhouse.api.http.operation import Access, Operation, Query, declares
from stillhouse.api.http.routing import ApiRoute, endpoint_route

_REF = "#/components/schemas/{model}"
_ARGUMENT = re.compile(r"^    (\w+): ((?:.|\n(?= {8}))+)", re.MULTILINE)
#: Path parameters without slashes; a model's name may have them.
_IN_ONE_PIECE = frozenset({"api_token"})
_TEXT: Mapping[str, Any] = {"type": "string"}


def openapi_document(routes: Sequence[ApiRoute]) -> dict[str, Any]:
    """
    Returns the document that describes the operations of *routes*.

    Source:
        OpenAPI Specification 3.1.0.
    """
    operations = [operation for route in routes for operation in route.operations.values()]
    schemas, definitions = _schemas_of(operations)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "stillhouse",
            "version": stillhouse.__version__,
            "description": "Your own DeepInfra: metered, OpenAI-compatible inference.",
        },
        "security": [{"bearer": []}, {"xiApiKey": []}, {"xApiKey": []}],
        "tags": [{"name": tag} for tag in dict.fromkeys(route.tag for route in routes)],
        "paths": {
            route.path_format: {
                method.lower(): _describe(route, operation, schemas)
                for method, operation in route.operations.items()
            }
            for route in routes
        },
        "components": {
            "schemas": {
                name: _with_field_descriptions(schema) for name, schema in definitions.items()
            },
            "headers": _HEADERS,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "xiApiKey": {"type": "apiKey", "in": "header", "name": "xi-api-key"},
                "xApiKey": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
    }


class OpenApi:
    """The endpoint that serves the document, encoded once."""

    def __init__(self) -> None:
        self._body = b""

    @declares(Operation("This document", response=dict[str, Any]))
    async def show(self, _request: Request) -> Response:
        """Returns the document."""
        return Response(self._body, media_type="application/json")

    def describe(self, routes: Sequence[ApiRoute]) -> None:
        """Encodes the document that describes *routes*."""
        self._body = msgspec.json.encode(openapi_document(routes))


def openapi_route(routes: Sequence[ApiRoute]) -> ApiRoute:
    """Returns the route that describes *routes* and itself."""
    openapi = OpenApi()
    route = endpoint_route(
        "/openapi.json", tag="Monitoring", access=Access.PUBLIC, GET=openapi.show
    )
    openapi.describe([*routes, route])
    return route


Schemas = Mapping[tuple[type, JsonSchemaMode], dict[str, Any]]


def _schemas_of(operations: Iterable[Operation]) -> tuple[Schemas, dict[str, Any]]:
    wanted: dict[tuple[Any, JsonSchemaMode], TypeAdapter[Any]] = {}
    for operation in operations:
        if operation.body is not None:
            wanted[operation.body, "validation"] = TypeAdapter(operation.body)
        for kind in (operation.response, operation.event, operation.error):
            if kind is not None:
                wanted[kind, "serialization"] = TypeAdapter(kind)
    inputs = [(kind, mode, adapter) for (kind, mode), adapter in wanted.items()]
    schemas, definitions = TypeAdapter.json_schemas(inputs, ref_template=_REF)
    return schemas, definitions.get("$defs", {})


def _with_field_descriptions(schema: dict[str, Any]) -> dict[str, Any]:
    """Moves the arguments of a schema's docstring to the properties that they describe."""
    summary, _, rest = inspect.cleandoc(schema.get("description", "")).partition("\n\nArgs:\n")
    arguments = {name: " ".join(text.split()) for name, text in _ARGUMENT.findall(rest)}
    properties = {
        name: {**about, "description": _plain(arguments[name])} if name in arguments else about
        for name, about in schema.get("properties", {}).items()
    }
    described = schema | ({"description": _plain(summary)} if summary else {})
    return described | ({"properties": properties} if properties else {})


def _plain(text: str) -> str:
    return text.replace("``", "`")


def _describe(route: ApiRoute, operation: Operation, schemas: Schemas) -> dict[str, Any]:
    described: dict[str, Any] = {
        "tags": [route.tag],
        "summary": operation.summary,
        "parameters": _parameters(route, operation),
        "responses": _responses(operation, route.access, schemas),
    }
    if operation.body is not None:
        schema = {"schema": schemas[operation.body, "validation"]}
        kinds = ("application/json", *operation.forms)
        described["requestBody"] = {"required": True, "content": dict.fromkeys(kinds, schema)}
    if route.access is Access.PUBLIC:
        described["security"] = []
    return described


def _parameters(route: ApiRoute, operation: Operation) -> list[dict[str, Any]]:
    return [
        *(_path_parameter(name) for name in route.param_convertors),
        *(_query_parameter(query) for query in operation.queries),
        *([_IDEMPOTENCY_KEY] if operation.has_idempotency_key else ()),
    ]


def _path_parameter(name: str) -> dict[str, Any]:
    parameter = {"name": name, "in": "path", "required": True, "schema": {**_TEXT, "minLength": 1}}
    if name in _IN_ONE_PIECE:
        return parameter
    return {**parameter, "description": "Slashes may be sent as they are, or as %2F."}


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
    "description": "A request that repeats the key of an earlier one gets the same response.",
    "required": False,
    "schema": {
        **_TEXT,
        "minLength": 1,
        "maxLength": idempotency_header.MAX_LENGTH,
        "pattern": "^[!-~]([ -~]*[!-~])?$",
    },
}

_HEADERS = {
    "x-request-id": {"description": "The request's id.", "schema": _TEXT},
    "Retry-After": {"description": "When to retry, in seconds.", "schema": _TEXT},
    "WWW-Authenticate": {"description": "How to authenticate: Bearer.", "schema": _TEXT},
    "Idempotent-Replayed": {
        "description": "true if the response is a replay.",
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


def _responses(operation: Operation, access: Access, schemas: Schemas) -> dict[str, Any]:
    replayed = ["Idempotent-Replayed"] if operation.has_idempotency_key else []
    response = {
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
        for status in operation.refusals(access)
    }
    return {str(status): response for status in operation.response_statuses} | refusals


def _content(operation: Operation, schemas: Schemas) -> dict[str, Any]:
    if operation.response is None:
        return {"text/plain": {"schema": _TEXT}}
    content = {"application/json": {"schema": schemas[operation.response, "serialization"]}}
    if operation.event is None:
        return content
    # OpenAPI 3.1 cannot describe the events of a stream; like 3.2, this describes each event.
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
