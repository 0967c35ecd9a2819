"""Turns a request's response format and tools into portable constraints, checked and bounded."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, assert_never

from stillhouse.errors import InvalidRequestError
from stillhouse.text.grammar.schemas.regex_bounds import check_regex
from stillhouse.text.grammar.schemas.schema_bounds import bounded_schema
from stillhouse.types.constraint import (
    JsonSchemaConstraint,
    RegexConstraint,
    ToolArguments,
    ToolCallConstraint,
)
from stillhouse.types.messages import Tool, ToolChoice, ToolMode
from stillhouse.types.response_format import (
    JsonObjectFormat,
    JsonSchemaFormat,
    RegexFormat,
    ResponseFormat,
)
from stillhouse.types.tool_call_form import ToolCallForm

MAX_REGEX_LENGTH = 4096

_ANY_OBJECT: Mapping[str, Any] = MappingProxyType({"type": "object"})
_NO_ARGUMENTS: Mapping[str, Any] = MappingProxyType(
    {"type": "object", "properties": {}, "additionalProperties": False}
)
_NAME = re.compile(r"[A-Za-z0-9_.-]+")


def format_constraint(response_format: ResponseFormat) -> JsonSchemaConstraint | RegexConstraint:
    """
    Constrains a whole answer to a response format.

    Raises:
        InvalidRequestError: The schema or expression is out of bounds, or asks for what cannot be
            enforced. Only `GrammarCompiler` finds out whether it compiles.

    """
    param = "response_format"
    match response_format:
        case JsonObjectFormat():
            return JsonSchemaConstraint(dict(_ANY_OBJECT))
        case JsonSchemaFormat(schema=schema):
            name = "The JSON Schema"
            return JsonSchemaConstraint(bounded_schema(schema, name=name, param=param))
        case RegexFormat(regex=regex):
            _check_regex(regex, param=param)
            return RegexConstraint(regex)
        case _:
            assert_never(response_format)


def tool_call_constraint(
    tools: Sequence[Tool],
    choice: ToolChoice,
    form: ToolCallForm,
    *,
    text_format: ResponseFormat | None = None,
) -> ToolCallConstraint | None:
    """
    Constrains an answer to call *tools* as *choice* says; returns None where any answer will do.

    Where a call is required, the answer is nothing but calls. Where it is the model's choice, and
    some tool is strict, the answer is text, then calls, if any. Arguments fit the parameters of
    their tool; keywords that cannot be enforced are left to the model unless the tool is strict.

    Args:
        text_format: The format of an answer without calls; it has nothing beside it then.

    Raises:
        InvalidRequestError: There is no such tool; or its parameters are out of bounds, or it is
            strict and they ask for what cannot be enforced.

    """
    is_required = choice.mode is ToolMode.REQUIRED
    if is_required:
        tools = _chosen(tools, choice)
    elif choice.mode is ToolMode.NONE or not _needs_constraint(tools, text_format):
        return None
    return ToolCallConstraint(
        form,
        tuple(_arguments(tool) for tool in tools),
        max_calls=form.max_calls if choice.is_parallel else 1,
        is_required=is_required,
        text=None if is_required or text_format is None else format_constraint(text_format),
    )


def _needs_constraint(tools: Sequence[Tool], text_format: ResponseFormat | None) -> bool:
    return any(tool.is_strict or text_format is not None for tool in tools)


def _check_regex(regex: str, *, param: str) -> None:
    check_regex(regex, where="The regular expression", max_length=MAX_REGEX_LENGTH, param=param)
    try:
        regex.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequestError(
            f"The regular expression holds half of a surrogate pair at character {error.start}; "
            "right would be whole characters",
            param=param,
        ) from error


def _chosen(tools: Sequence[Tool], choice: ToolChoice) -> Sequence[Tool]:
    chosen = [tool for tool in tools if choice.name in {None, tool.name}]
    if not chosen:
        raise InvalidRequestError(
            f"tool_choice requires {choice.name or 'a call'!r}, and tools has "
            f"{', '.join(repr(tool.name) for tool in tools) or 'none'}; right would be one of them",
            param="tool_choice",
        )
    return chosen


def _arguments(tool: Tool) -> ToolArguments:
    if not _NAME.fullmatch(tool.name):
        raise InvalidRequestError(
            f"tools has the name {tool.name!r}; right would be letters, digits, '_', '.' and '-'",
            param="tools",
        )
    if tool.parameters is None:
        return ToolArguments(tool.name, dict(_NO_ARGUMENTS), is_strict=True)
    name = f"The parameters of tool {tool.name!r}"
    schema = bounded_schema(tool.parameters, name=name, param="tools", is_strict=tool.is_strict)
    if schema.get("type", "object") not in ("object", ["object"]):
        raise InvalidRequestError(
            f"{name} are of type {schema['type']!r}; right would be 'object', as arguments have "
            "names",
            param="tools",
        )
    return ToolArguments(tool.name, dict(_ANY_OBJECT) | schema, is_strict=tool.is_strict)
