"""Checks a JSON Schema from a request: it is within bounds, and every keyword is understood."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from stillhouse.text.grammar.schemas.known_schemas import KnownSchemas
from stillhouse.text.grammar.schemas.regex_bounds import MAX_REPETITION, check_regex
from stillhouse.text.grammar.schemas.schema_reader import (
    FORMATS,
    MAX_NODES,
    MAX_PATTERN_LENGTH,
    ReadKeyword,
    SchemaReader,
    is_format,
    short,
)
from stillhouse.text.grammar.schemas.schema_references import check_references
from stillhouse.types.json_object import JsonObject

MAX_ENUM = 1000

TYPES = frozenset({"null", "boolean", "integer", "number", "string", "array", "object"})


def bounded_schema(
    schema: JsonObject, *, name: str, param: str, is_strict: bool = True
) -> dict[str, Any]:
    """
    Checks *schema* and returns what of it constrains: no annotations, no unknown keywords.

    The limits answer to what schemas have done to other servers (xgrammar's GHSA-5cmr-4px5-23pc
    and CVE-2026-25048: nesting; vLLM's CVE-2025-48942: keywords of a wrong type).

    Args:
        name: Begins messages, as in ``The parameters of tool 'search'``.
        param: The field to be named by errors.
        is_strict: Refuses keywords, formats and patterns that cannot be enforced; otherwise they
            are left out.

    Raises:
        InvalidRequestError: Too large or too deep, a keyword of a wrong type, one that is not
            supported, a reference that leads nowhere or out of the schema, or no finite JSON can
            fit it.

    """
    if known := _KNOWN.find(schema, is_strict=is_strict):
        return known
    reader = SchemaReader(name=name, param=param, is_strict=is_strict, keywords=_KEYWORDS)
    bounded = reader.read(schema, "#", depth=1)
    if not isinstance(bounded, dict):
        reader.refuse("#", schema, "a JSON object")
    check_references(reader.nodes, name=name, param=param, max_nodes=MAX_NODES)
    _KNOWN.note(schema, bounded, is_strict=is_strict)
    return bounded


#: Requests of one application have one schema, and reading a large one takes tens of milliseconds.
_KNOWN = KnownSchemas(max_chars=1024 * 1024)


# One reader for each kind of keyword follows.


def _schema(reader: SchemaReader, value: object, at: str, depth: int, parent: str) -> Any:
    return reader.read(value, at, depth=depth + 1, parent=parent)


def _schemas(reader: SchemaReader, value: object, at: str, depth: int, parent: str) -> Any:
    if not isinstance(value, list | tuple) or not value:
        reader.refuse(at, value, "a list of schemas, with at least one")
    return [
        reader.read(schema, f"{at}/{index}", depth=depth + 1, parent=parent)
        for index, schema in enumerate(value)
    ]


def _schema_or_schemas(
    reader: SchemaReader, value: object, at: str, depth: int, parent: str
) -> Any:
    """Reads ``items``, which until draft 2019-09 may be a list, one schema for each place."""
    read = _schemas if isinstance(value, list | tuple) else _schema
    return read(reader, value, at, depth, parent)


def _schema_map(reader: SchemaReader, value: object, at: str, depth: int, parent: str) -> Any:
    if not isinstance(value, Mapping):
        reader.refuse(at, value, "a JSON object of schemas")
    for key in value:
        reader.text(str(key))
    return {
        key: reader.read(schema, f"{at}/{_escaped(key)}", depth=depth + 1, parent=parent)
        for key, schema in value.items()
    }


def _pattern_map(reader: SchemaReader, value: object, at: str, depth: int, parent: str) -> Any:
    schemas = _schema_map(reader, value, at, depth, parent)
    for pattern in schemas:
        _pattern(reader, pattern, at, depth, parent)
    return schemas


def _const(reader: SchemaReader, value: object, at: str, depth: int, _parent: str) -> Any:
    reader.literal(value, at, depth + 1)
    return value


def _enum(reader: SchemaReader, value: object, at: str, depth: int, _parent: str) -> Any:
    if not isinstance(value, list | tuple) or not 0 < len(value) <= MAX_ENUM:
        reader.refuse(at, value, f"a list of 1 to {MAX_ENUM} values")
    for literal in value:
        reader.literal(literal, at, depth + 1)
    return list(value)


def _type(reader: SchemaReader, value: object, at: str, _depth: int, _parent: str) -> Any:
    names = value if isinstance(value, list | tuple) else [value]
    if not names or not all(isinstance(name, str) and name in TYPES for name in names):
        reader.refuse(at, value, f"one of {', '.join(sorted(TYPES))}, or a list of them")
    return value


def _required(reader: SchemaReader, value: object, at: str, _depth: int, _parent: str) -> Any:
    # Draft 3 had a boolean in each property; some tools still write it.
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
        reader.refuse(at, value, "a list of the names of members")
    for name in value:
        reader.count(at, 0)
        reader.text(name)
    return list(value)


def _count(reader: SchemaReader, value: object, at: str, _depth: int, _parent: str) -> Any:
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or value % 1 != 0
        or not 0 <= value <= MAX_REPETITION
    ):
        reader.refuse(at, value, f"a whole number from 0 to {MAX_REPETITION}")
    return int(value)


def _bound(reader: SchemaReader, value: object, at: str, _depth: int, _parent: str) -> Any:
    reader.number(value, at)
    return value


def _exclusive_bound(reader: SchemaReader, value: object, at: str, depth: int, parent: str) -> Any:
    """Reads a bound, in draft 4 a boolean beside ``minimum`` or ``maximum``."""
    return value if isinstance(value, bool) else _bound(reader, value, at, depth, parent)


def _multiple(reader: SchemaReader, value: object, at: str, _depth: int, _parent: str) -> Any:
    number = reader.number(value, at)
    if not number > 0:
        reader.refuse(at, value, "a number greater than 0")
    return number


def _pattern(reader: SchemaReader, value: object, at: str, _depth: int, _parent: str) -> Any:
    if not isinstance(value, str):
        reader.refuse(at, value, "a regular expression in a string")
    reader.text(value)
    check_regex(
        value,
        where=f"{reader.name}: the pattern at {short(at)}",
        max_length=MAX_PATTERN_LENGTH,
        param=reader.param,
    )
    return value


def _format(reader: SchemaReader, value: object, at: str, _depth: int, _parent: str) -> Any:
    if not is_format(value):
        reader.refuse(at, value, f"one of {', '.join(sorted(FORMATS - {'unknown'}))}")
    return value


def _reference(reader: SchemaReader, value: object, at: str, _depth: int, _parent: str) -> Any:
    if not isinstance(value, str) or not (value == "#" or value.startswith("#/")):
        reader.refuse(at, value, "a place in the same schema, as in '#/$defs/name'")
    return value


def _escaped(key: object) -> str:
    """Returns a key as JSON pointers write it (RFC 6901, section 3)."""
    return str(key).replace("~", "~0").replace("/", "~1")


_KEYWORDS: Mapping[str, ReadKeyword] = MappingProxyType(
    {
        "$defs": _schema_map,
        "$ref": _reference,
        "additionalItems": _schema,
        "additionalProperties": _schema,
        "allOf": _schemas,
        "anyOf": _schemas,
        "const": _const,
        "definitions": _schema_map,
        "enum": _enum,
        "exclusiveMaximum": _exclusive_bound,
        "exclusiveMinimum": _exclusive_bound,
        "format": _format,
        "items": _schema_or_schemas,
        "maximum": _bound,
        "maxItems": _count,
        "maxLength": _count,
        "maxProperties": _count,
        "minimum": _bound,
        "minItems": _count,
        "minLength": _count,
        "minProperties": _count,
        "multipleOf": _multiple,
        "oneOf": _schemas,
        "pattern": _pattern,
        "patternProperties": _pattern_map,
        "prefixItems": _schemas,
        "properties": _schema_map,
        "required": _required,
        "type": _type,
    }
)
