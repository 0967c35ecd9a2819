"""``GET /openapi.json``: the whole API as an OpenAPI 3.1 document, made from the schemas in use."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaMode
from starlette.requests import Request
from starlette.responses import Response
from typing_extensions import TypedDict

import stillhouse

_REF = "#/components/schemas/{model}"
_PATH_PARAMETER = re.compile(r"{(\w+)}")


class ErrorOut(TypedDict):
    """What went wrong; `param` names the field to blame."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBodyOut(TypedDict):
    """The envelope of every error, as OpenAI's clients parse it."""

    error: ErrorOut


@dataclass(frozen=True, slots=True)
class Query:
    """A parameter in the query."""

    name: str
    description: str
    is_required: bool = False


@dataclass(frozen=True, slots=True)
class Operation:
    """
    What one method of one path does.

    Args:
        path: With its parameters in braces.
        body: The schema that reads the body; None takes none.
        answer: The type of the answer; None where it is not JSON.
        event: The type of each event, where it can answer with a stream.
        error: The envelope of its errors.
        statuses: Of its refusals.
        forms: Content types of the body, besides JSON.

    """

    method: Literal["get", "post", "delete"]
    path: str
    summary: str
    answer: Any = None
    body: Any = None
    event: Any = None
    error: Any = ErrorBodyOut
    queries: tuple[Query, ...] = ()
    statuses: tuple[int, ...] = (401, 403, 422, 503)
    forms: tuple[str, ...] = ()
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
        "security": [{"bearer": []}, {"xApiKey": []}],
        "paths": paths,
        "components": {
            "schemas": definitions,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
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
    text = {"type": "string"}
    in_path = [
        {"name": name, "in": "path", "required": True, "schema": text}
        for name in _PATH_PARAMETER.findall(operation.path)
    ]
    in_query = [
        {
            "name": query.name,
            "in": "query",
            "description": query.description,
            "required": query.is_required,
            "schema": text,
        }
        for query in operation.queries
    ]
    return in_path + in_query


def _responses(operation: Operation, schemas: Schemas) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if operation.answer is not None:
        content["application/json"] = {"schema": schemas[operation.answer, "serialization"]}
    else:
        content["text/plain"] = {"schema": {"type": "string"}}
    if operation.event is not None:
        # OpenAPI 3.1 has no word for the events of a stream; the schema is each one's.
        schema = schemas[operation.event, "serialization"]
        content["text/event-stream"] = {"schema": {"type": "string", "x-event": schema}}
    error = {
        "description": "refused",
        "content": {"application/json": {"schema": schemas[operation.error, "serialization"]}},
    }
    return {
        "200": {"description": "OK", "content": content},
        **{str(status): error for status in (*operation.statuses, 500)},
    }
