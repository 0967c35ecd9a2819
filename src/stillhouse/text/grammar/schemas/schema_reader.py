"""Reads a JSON Schema node by node, within bounds of depth, number and length."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from stillhouse.errors import InvalidRequestError
from stillhouse.text.grammar.schemas.regex_bounds import check_regex
from stillhouse.text.grammar.schemas.schema_references import Node

MAX_DEPTH = 32
#: Schemas and literal values (in ``const`` and ``enum``) together, each counted where it stands.
MAX_NODES = 2000
#: Of names, patterns and literal values: as much as a grammar may have in all.
MAX_CHARS = 256 * 1024
MAX_PATTERN_LENGTH = 1024
#: Beyond it a float no longer tells neighbouring integers apart.
MAX_NUMBER = 2**53

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

#: Reads a keyword's value: of its place, its depth, and its schema's place.
ReadKeyword = Callable[["SchemaReader", object, str, int, str], Any]


@dataclass(slots=True)
class SchemaReader:
    """
    Reads one schema, counts what it holds, and keeps the keywords that constrain.

    Args:
        name: Begins messages.
        param: The field to be named by errors.
        is_strict: Refuses keywords that cannot be enforced; otherwise they are left out.
        keywords: The reader of each keyword's value.
        nodes: Every schema read so far, by its place, children first.

    """

    name: str
    param: str
    is_strict: bool
    keywords: Mapping[str, ReadKeyword]
    nodes: dict[str, Node] = field(default_factory=dict)
    num_nodes: int = 0
    num_chars: int = 0

    def read(self, schema: object, at: str, *, depth: int, parent: str | None = None) -> Any:
        """Reads the schema at the place *at* (a JSON pointer) and returns what of it constrains."""
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
        """Counts a literal value and checks its numbers."""
        self.count(at, depth)
        if isinstance(value, int | float) and not isinstance(value, bool):
            self.number(value, at)
        for text in (value,) if isinstance(value, str) else _keys(value):
            self.text(str(text))
        for child in _children(value):
            self.literal(child, at, depth + 1)

    def number(self, value: object, at: str) -> int | float:
        """Returns a number that a float can hold exactly; refuses any other value."""
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not abs(value) <= MAX_NUMBER  # neither is NaN
        ):
            self.refuse(at, value, f"a number between -{MAX_NUMBER} and {MAX_NUMBER}")
        return value

    def count(self, at: str, depth: int) -> None:
        """Counts a schema or value, and refuses it where it is one too many or too deep."""
        self.num_nodes += 1
        if depth > MAX_DEPTH:
            self.fail(f"is nested more than {MAX_DEPTH} deep at {short(at)}")
        if self.num_nodes > MAX_NODES:
            self.fail(f"has more than {MAX_NODES} schemas and values; right would be fewer")

    def text(self, text: str) -> None:
        """Counts the characters of a name, pattern or literal, before it is processed."""
        self.num_chars += len(text)
        if self.num_chars > MAX_CHARS:
            self.fail(
                "has too many characters in its names, patterns and values; right would be at "
                f"most {MAX_CHARS}"
            )

    def refuse(self, at: str, value: object, right: str) -> NoReturn:
        """Raises the error that *value* is wrong at the place *at*, and what would be right."""
        self.fail(f"has {short(value)} at {short(at)}; right would be {right}")

    def fail(self, fault: str) -> NoReturn:
        """Raises the error of a schema with this fault."""
        raise InvalidRequestError(f"{self.name} {fault}", param=self.param)

    def _keeps(self, keyword: str, value: object, schema: Mapping[str, Any], at: str) -> bool:
        if _is_unsupported(keyword, value, schema):
            if self.is_strict:
                self.fail(
                    f"uses {keyword!r} at {short(at)}, which is not supported; right would be "
                    "a schema without it"
                )
            return False
        if keyword not in self.keywords:
            return False  # an annotation, or unknown, which is the same (JSON Schema Core, 6.5)
        if keyword == "additionalItems" and not isinstance(schema.get("items"), list | tuple):
            return False  # it says nothing without a list (JSON Schema 2019-09, 9.3.1.2)
        return self.is_strict or _is_enforceable(keyword, value, schema)

    def _keyword(self, keyword: str, value: object, at: str, depth: int) -> Any:
        return self.keywords[keyword](self, value, f"{at}/{keyword}", depth, at)


def _is_unsupported(keyword: str, value: object, schema: Mapping[str, Any]) -> bool:
    if keyword == "prefixItems":  # the older way of saying the same; both are one too many
        return isinstance(schema.get("items"), list | tuple)
    return keyword in UNSUPPORTED and not (keyword == "uniqueItems" and value is False)


def _is_enforceable(keyword: str, value: object, schema: Mapping[str, Any]) -> bool:
    if keyword == "format":
        return is_format(value)
    if keyword in {"minProperties", "maxProperties"}:
        return _has_only_required(schema)
    if keyword == "pattern" and isinstance(value, str):
        return _is_plain_regex(value)
    return True


def is_format(value: object) -> bool:
    """Returns whether *value* is a format that can be enforced."""
    return isinstance(value, str) and value in FORMATS


def _has_only_required(schema: Mapping[str, Any]) -> bool:
    """Returns whether no member is optional: only then can the number of members be bounded."""
    required = frozenset(map(str, _items(schema.get("required"))))
    return all(str(name) in required for name in _keys(schema.get("properties")))


def _is_plain_regex(pattern: str) -> bool:
    try:
        check_regex(pattern, where="", max_length=MAX_PATTERN_LENGTH, param="")
    except InvalidRequestError:
        return False
    return True


def _keys(value: object) -> Iterator[object]:
    if isinstance(value, Mapping):
        yield from value


def _items(value: object) -> Iterator[object]:
    if isinstance(value, list | tuple):
        yield from value


def _children(value: object) -> Iterator[object]:
    yield from value.values() if isinstance(value, Mapping) else _items(value)


def short(value: object) -> str:
    """Returns a place or a value as messages quote it."""
    if isinstance(value, str) and value.startswith("#"):  # a place
        return value if len(value) <= 80 else value[:79] + "…"
    try:
        return reprlib.repr(value)
    except ValueError:  # Python does not write numbers of more than 4300 digits
        return "a number of thousands of digits"
