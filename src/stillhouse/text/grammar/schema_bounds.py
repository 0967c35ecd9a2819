"""A JSON Schema from outside: within bounds, and nothing in it that is not understood."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NoReturn

from stillhouse.errors import InvalidRequestError
from stillhouse.text.grammar.known_schemas import KnownSchemas
from stillhouse.text.grammar.regex_bounds import MAX_REPETITION, check_regex
from stillhouse.text.grammar.schema_references import Node, check_references
from stillhouse.types.json_object import JsonObject

MAX_DEPTH = 32
#: Schemas and literal values (in ``const`` and ``enum``) together, each counted where it stands.
MAX_NODES = 2000
#: Of names, patterns and literal values: as much as a grammar may have in all.
MAX_CHARS = 256 * 1024
MAX_ENUM = 1000
MAX_PATTERN_LENGTH = 1024
#: Beyond it a float no longer tells neighbouring integers apart.
MAX_NUMBER = 2**53

TYPES = frozenset({"null", "boolean", "integer", "number", "string", "array", "object"})
#: Those that are enforced, for strings (JSON Schema Validation 2020-12, 7.3).
FORMATS = frozenset(
    "date-time time date duration email hostname ipv4 ipv6 uuid uri unknown".split()  # noqa: SIM905 (a list of words reads better so)
)
#: Keywords of JSON Schema, drafts 4 to 2020-12, that constrain what cannot be enforced here.
UNSUPPORTED = frozenset(
    {
        "$dynamicRef",
        "$recursiveRef",
        "contains",
        "contentSchema",
        "dependencies",
        "dependentRequired",
        "dependentSchemas",
        "else",
        "if",
        "maxContains",
        "minContains",
        "not",
        "propertyNames",
        "then",
        "unevaluatedItems",
        "unevaluatedProperties",
        "uniqueItems",
    }
)


def bounded_schema(
    schema: JsonObject, *, name: str, param: str, is_strict: bool = True
) -> dict[str, Any]:
    """
    Check *schema* and return what of it constrains: no annotations, no unknown keywords.

    The limits answer to what schemas have done to other servers (xgrammar's GHSA-5cmr-4px5-23pc
    and CVE-2026-25048: nesting; vLLM's CVE-2025-48942: keywords of a wrong type).

    Args:
        name: Begins messages, as in ``The parameters of tool 'search'``.
        param: The field to be named by errors.
        is_strict: Refuse keywords, formats and patterns that cannot be enforced; otherwise they
            are left out.

    Raises:
        InvalidRequestError: Too large or too deep, a keyword of a wrong type, one that is not
            supported, a reference that leads nowhere or out of the schema, or no finite JSON can
            fit it.

    """
    if known := _KNOWN.find(schema, is_strict=is_strict):
        return known
    reader = _Reader(name=name, param=param, is_strict=is_strict)
    bounded = reader.read(schema, "#", depth=1)
    if not isinstance(bounded, dict):
        reader.refuse("#", schema, "a JSON object")
    check_references(reader.nodes, name=name, param=param, max_nodes=MAX_NODES)
    _KNOWN.note(schema, bounded, is_strict=is_strict)
    return bounded


#: Requests of one application have one schema, and reading a large one takes tens of milliseconds.
_KNOWN = KnownSchemas(max_chars=1024 * 1024)


@dataclass(slots=True)
class _Reader:
    """Walks one schema; `nodes` has every schema in it, by its place, children first."""

    name: str
    param: str
    is_strict: bool
    nodes: dict[str, Node] = field(default_factory=dict)
    num_nodes: int = 0
    num_chars: int = 0

    def read(self, schema: object, at: str, *, depth: int, parent: str | None = None) -> Any:
        """The schema at the place *at* (a JSON pointer), read and cleaned."""
        self.count(at, depth)
        if isinstance(schema, bool):
            cleaned: dict[str, Any] | bool = schema
        elif isinstance(schema, Mapping):
            cleaned = {
                keyword: self._keyword(keyword, value, at, depth)
                for keyword, value in schema.items()
                if self._keeps(keyword, value, schema, at)
            }
        else:
            self.refuse(at, schema, "a JSON object, true or false")
        self.nodes[at] = Node(cleaned, parent)
        return cleaned

    def literal(self, value: object, at: str, depth: int) -> None:
        """A JSON value that stands for itself."""
        self.count(at, depth)
        if isinstance(value, int | float) and not isinstance(value, bool):
            self.number(value, at)
        for text in (value,) if isinstance(value, str) else _keys(value):
            self.text(str(text))
        for child in _children(value):
            self.literal(child, at, depth + 1)

    def number(self, value: object, at: str) -> int | float:
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not abs(value) <= MAX_NUMBER  # neither is NaN
        ):
            self.refuse(at, value, f"a number between -{MAX_NUMBER} and {MAX_NUMBER}")
        return value

    def count(self, at: str, depth: int) -> None:
        self.num_nodes += 1
        if depth > MAX_DEPTH:
            self.fail(f"is nested more than {MAX_DEPTH} deep at {_short(at)}")
        if self.num_nodes > MAX_NODES:
            self.fail(f"has more than {MAX_NODES} schemas and values; right would be fewer")

    def text(self, text: str) -> None:
        """Count a name, pattern or literal, before anything is done with it."""
        self.num_chars += len(text)
        if self.num_chars > MAX_CHARS:
            self.fail(
                "has too many characters in its names, patterns and values; right would be at "
                f"most {MAX_CHARS}"
            )

    def refuse(self, at: str, value: object, right: str) -> NoReturn:
        """Say that *value* is wrong at the place *at*, and what would be right."""
        self.fail(f"has {_short(value)} at {_short(at)}; right would be {right}")

    def fail(self, fault: str) -> NoReturn:
        raise InvalidRequestError(f"{self.name} {fault}", param=self.param)

    def _keeps(self, keyword: str, value: object, schema: Mapping[str, Any], at: str) -> bool:
        if _is_unsupported(keyword, value, schema):
            if self.is_strict:
                self.fail(
                    f"uses {keyword!r} at {_short(at)}, which is not supported; right would be "
                    "a schema without it"
                )
            return False
        if keyword not in _KEYWORDS:
            return False  # an annotation, or unknown, which is the same (JSON Schema Core, 6.5)
        if keyword == "additionalItems" and not isinstance(schema.get("items"), list | tuple):
            return False  # it says nothing without a list (JSON Schema 2019-09, 9.3.1.2)
        return self.is_strict or _is_enforceable(keyword, value, schema)

    def _keyword(self, keyword: str, value: object, at: str, depth: int) -> Any:
        return _KEYWORDS[keyword](self, value, f"{at}/{keyword}", depth, at)


def _is_unsupported(keyword: str, value: object, schema: Mapping[str, Any]) -> bool:
    if keyword == "prefixItems":  # the older way of saying the same; both are one too many
        return isinstance(schema.get("items"), list | tuple)
    return keyword in UNSUPPORTED and not (keyword == "uniqueItems" and value is False)


def _is_enforceable(keyword: str, value: object, schema: Mapping[str, Any]) -> bool:
    if keyword == "format":
        return _is_format(value)
    if keyword in {"minProperties", "maxProperties"}:
        return _has_only_required(schema)
    if keyword == "pattern" and isinstance(value, str):
        return _is_plain_regex(value)
    return True


def _is_format(value: object) -> bool:
    return isinstance(value, str) and value in FORMATS


def _has_only_required(schema: Mapping[str, Any]) -> bool:
    """The number of an object's members can be counted only where none is optional."""
    required = frozenset(map(str, _items(schema.get("required"))))
    return all(str(name) in required for name in _keys(schema.get("properties")))


def _is_plain_regex(pattern: str) -> bool:
    try:
        check_regex(pattern, where="", max_length=MAX_PATTERN_LENGTH, param="")
    except InvalidRequestError:
        return False
    return True


# One reader per kind of keyword: of its value, its place, its depth, and its schema's place.


def _schema(reader: _Reader, value: object, at: str, depth: int, parent: str) -> Any:
    return reader.read(value, at, depth=depth + 1, parent=parent)


def _schemas(reader: _Reader, value: object, at: str, depth: int, parent: str) -> Any:
    if not isinstance(value, list | tuple) or not value:
        reader.refuse(at, value, "a list of schemas, with at least one")
    return [
        reader.read(schema, f"{at}/{index}", depth=depth + 1, parent=parent)
        for index, schema in enumerate(value)
    ]


def _schema_or_schemas(reader: _Reader, value: object, at: str, depth: int, parent: str) -> Any:
    """Until draft 2019-09, ``items`` may be a list, one schema for each place."""
    read = _schemas if isinstance(value, list | tuple) else _schema
    return read(reader, value, at, depth, parent)


def _schema_map(reader: _Reader, value: object, at: str, depth: int, parent: str) -> Any:
    if not isinstance(value, Mapping):
        reader.refuse(at, value, "a JSON object of schemas")
    for key in value:
        reader.text(str(key))
    return {
        key: reader.read(schema, f"{at}/{_escaped(key)}", depth=depth + 1, parent=parent)
        for key, schema in value.items()
    }


def _pattern_map(reader: _Reader, value: object, at: str, depth: int, parent: str) -> Any:
    schemas = _schema_map(reader, value, at, depth, parent)
    for pattern in schemas:
        _pattern(reader, pattern, at, depth, parent)
    return schemas


def _const(reader: _Reader, value: object, at: str, depth: int, _parent: str) -> Any:
    reader.literal(value, at, depth + 1)
    return value


def _enum(reader: _Reader, value: object, at: str, depth: int, _parent: str) -> Any:
    if not isinstance(value, list | tuple) or not 0 < len(value) <= MAX_ENUM:
        reader.refuse(at, value, f"a list of 1 to {MAX_ENUM} values")
    for literal in value:
        reader.literal(literal, at, depth + 1)
    return list(value)


def _type(reader: _Reader, value: object, at: str, _depth: int, _parent: str) -> Any:
    names = value if isinstance(value, list | tuple) else [value]
    if not names or not all(isinstance(name, str) and name in TYPES for name in names):
        reader.refuse(at, value, f"one of {', '.join(sorted(TYPES))}, or a list of them")
    return value


def _required(reader: _Reader, value: object, at: str, _depth: int, _parent: str) -> Any:
    # Draft 3 had a boolean in each property; some tools still write it.
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
        reader.refuse(at, value, "a list of the names of members")
    for name in value:
        reader.count(at, 0)
        reader.text(name)
    return list(value)


def _count(reader: _Reader, value: object, at: str, _depth: int, _parent: str) -> Any:
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or value % 1 != 0
        or not 0 <= value <= MAX_REPETITION
    ):
        reader.refuse(at, value, f"a whole number from 0 to {MAX_REPETITION}")
    return int(value)


def _bound(reader: _Reader, value: object, at: str, _depth: int, _parent: str) -> Any:
    reader.number(value, at)
    return value


def _exclusive_bound(reader: _Reader, value: object, at: str, depth: int, parent: str) -> Any:
    """In draft 4 a boolean beside ``minimum`` or ``maximum``."""
    return value if isinstance(value, bool) else _bound(reader, value, at, depth, parent)


def _multiple(reader: _Reader, value: object, at: str, _depth: int, _parent: str) -> Any:
    number = reader.number(value, at)
    if not number > 0:
        reader.refuse(at, value, "a number greater than 0")
    return number


def _pattern(reader: _Reader, value: object, at: str, _depth: int, _parent: str) -> Any:
    if not isinstance(value, str):
        reader.refuse(at, value, "a regular expression in a string")
    reader.text(value)
    check_regex(
        value,
        where=f"{reader.name}: the pattern at {_short(at)}",
        max_length=MAX_PATTERN_LENGTH,
        param=reader.param,
    )
    return value


def _format(reader: _Reader, value: object, at: str, _depth: int, _parent: str) -> Any:
    if not _is_format(value):
        reader.refuse(at, value, f"one of {', '.join(sorted(FORMATS - {'unknown'}))}")
    return value


def _reference(reader: _Reader, value: object, at: str, _depth: int, _parent: str) -> Any:
    if not isinstance(value, str) or not (value == "#" or value.startswith("#/")):
        reader.refuse(at, value, "a place in the same schema, as in '#/$defs/name'")
    return value


def _keys(value: object) -> Iterator[object]:
    if isinstance(value, Mapping):
        yield from value


def _items(value: object) -> Iterator[object]:
    if isinstance(value, list | tuple):
        yield from value


def _children(value: object) -> Iterator[object]:
    yield from value.values() if isinstance(value, Mapping) else _items(value)


def _escaped(key: object) -> str:
    """RFC 6901, section 3."""
    return str(key).replace("~", "~0").replace("/", "~1")


def _short(value: object) -> str:
    if isinstance(value, str) and value.startswith("#"):  # a place
        return value if len(value) <= 80 else value[:79] + "…"
    try:
        return reprlib.repr(value)
    except ValueError:  # Python does not write numbers of more than 4300 digits
        return "a number of thousands of digits"


_Read = Callable[[_Reader, object, str, int, str], Any]
_KEYWORDS: Mapping[str, _Read] = MappingProxyType(
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
