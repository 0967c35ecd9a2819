"""Checks the references of a JSON Schema: their targets exist, and some finite JSON fits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from stillhouse.errors import InvalidRequestError

#: Of known keywords only, each of its right type.
Schema = dict[str, Any] | bool

_BRANCHES = ("anyOf", "oneOf")


@dataclass(frozen=True, slots=True)
class Node:
    """
    A schema within a schema.

    Args:
        parent: The place of the schema that it stands in; None for the whole.

    """

    schema: Schema
    parent: str | None


def check_references(nodes: Mapping[str, Node], *, name: str, param: str, max_nodes: int) -> None:
    """
    Checks all ``$ref`` of a schema.

    Args:
        nodes: Every schema in it by its place (``#`` and a JSON pointer), children first.
        name: Begins messages.
        param: The field to be named by errors.
        max_nodes: Most schemas with every reference written out; what refers to itself counts
            once on each way to it.

    Raises:
        InvalidRequestError: One leads nowhere, they stand for too many schemas, or nothing finite
            fits: what is required always requires more.

    """
    for at, node in nodes.items():
        target = _target(node.schema)
        if target is not None and target not in nodes:
            raise InvalidRequestError(
                f"{name} refers to {target[:80]!r} at {at[:80]}, where no schema is; right would "
                "be a place such as '#/$defs/name'",
                param=param,
            )
    if any(_target(node.schema) for node in nodes.values()):
        if _expanded_size(nodes, max_nodes) > max_nodes:
            raise InvalidRequestError(
                f"{name} stands for more than {max_nodes} schemas when its references are "
                "written out; right would be fewer",
                param=param,
            )
        if "#" not in _finite(nodes):
            raise InvalidRequestError(
                f"{name} refers to itself without an end, so that no JSON fits it; right would "
                "be a way out, such as a member that is not required",
                param=param,
            )


def _target(schema: Schema) -> str | None:
    if isinstance(schema, bool) or "$ref" not in schema:
        return None
    return unquote(str(schema["$ref"]))


def _expanded_size(nodes: Mapping[str, Node], max_nodes: int) -> int:
    """Returns how many schemas there are with every reference written out; stops at *max_nodes*."""
    children = _children(nodes)
    pending: list[tuple[str, frozenset[str]]] = [("#", frozenset("#"))]
    size = 0
    while pending and size <= max_nodes:
        at, entered = pending.pop()
        size += 1
        pending += [(child, entered) for child in children[at]]
        target = _target(nodes[at].schema)
        if target is not None and target not in entered:
            pending.append((target, entered | {target}))
    return size


def _children(nodes: Mapping[str, Node]) -> Mapping[str, list[str]]:
    """Returns the schemas that each is made of, without its definitions."""
    children: dict[str, list[str]] = defaultdict(list)
    for at, node in nodes.items():
        if node.parent is not None and not _is_definition(at, node.parent):
            children[node.parent].append(at)
    return children


def _is_definition(at: str, parent: str) -> bool:
    return at[len(parent) :].startswith(("/$defs/", "/definitions/"))


def _finite(nodes: Mapping[str, Node]) -> set[str]:
    """
    Returns the places of schemas that some finite JSON may fit: a least fixed point.

    What else they ask for is not looked at; whether anything at all fits is the compiler's to say.
    """
    dependents = _dependents(nodes)
    finite: set[str] = set()
    # Children first, and none twice: a schema of a thousand members is looked at when most of them
    # have been, and not after each.
    pending = dict.fromkeys(nodes)
    while pending:
        at = next(iter(pending))
        del pending[at]
        if at not in finite and _can_end(at, nodes[at].schema, finite):
            finite.add(at)
            pending |= dict.fromkeys(dependents[at])
    return finite


def _dependents(nodes: Mapping[str, Node]) -> Mapping[str, list[str]]:
    dependents: dict[str, list[str]] = defaultdict(list)
    for at, node in nodes.items():
        if node.parent is not None:
            dependents[at].append(node.parent)
        target = _target(node.schema)
        if target is not None:
            dependents[target].append(at)
    return dependents


def _can_end(at: str, schema: Schema, finite: set[str]) -> bool:
    if isinstance(schema, bool):
        return True
    target = _target(schema)
    return (
        (target is None or target in finite)
        and all(f"{at}/allOf/{index}" in finite for index in _indices(schema, "allOf"))
        and all(
            any(f"{at}/{branch}/{index}" in finite for index in _indices(schema, branch))
            for branch in _BRANCHES
            if branch in schema
        )
        and any(_type_can_end(name, at, schema, finite) for name in _types(schema))
    )


def _types(schema: dict[str, Any]) -> list[str]:
    types = schema.get("type", "null")  # without a type, null fits whatever else is said
    return [types] if isinstance(types, str) else list(types)


def _type_can_end(name: str, at: str, schema: dict[str, Any], finite: set[str]) -> bool:
    match name:
        case "object":
            return all(member in finite for member in _required_members(at, schema))
        case "array":
            return all(item in finite for item in _required_items(at, schema))
        case _:
            return True


def _required_members(at: str, schema: dict[str, Any]) -> Iterator[str]:
    for key in schema.get("required", ()):
        if key in schema.get("properties", {}):
            yield f"{at}/properties/{key.replace('~', '~0').replace('/', '~1')}"


def _required_items(at: str, schema: dict[str, Any]) -> Iterator[str]:
    num_required = schema.get("minItems", 0)
    keyword = "items" if isinstance(schema.get("items"), list) else "prefixItems"
    rest = "additionalItems" if keyword == "items" else "items"
    num_placed = len(schema.get(keyword, ()))
    for index in range(min(num_required, num_placed)):
        yield f"{at}/{keyword}/{index}"
    if num_required > num_placed and rest in schema:
        yield f"{at}/{rest}"


def _indices(schema: dict[str, Any], keyword: str) -> range:
    return range(len(schema.get(keyword, ())))
