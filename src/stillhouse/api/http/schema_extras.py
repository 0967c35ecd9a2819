"""Adds to a body's JSON Schema what pydantic cannot express: required and unsupported fields."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

#: A value of the tag, and the names of the fields that it requires.
Requirement = tuple[str, tuple[str, ...]]


def describe_required_fields(
    schema: dict[str, Any],
    tag: str,
    requirements: Iterable[Requirement],
    *,
    is_exclusive: bool = False,
) -> None:
    """
    Describes which fields each value of a tag requires, and that no other value is allowed.

    Args:
        tag: The field that selects the requirement.
        requirements: A value that occurs twice may have either set of fields.
        is_exclusive: Forbid the fields that only other values require.

    """
    requirements = tuple(requirements)
    properties = schema["properties"]
    all_required = {name for _, names in requirements for name in names} if is_exclusive else set()
    schema["anyOf"] = [
        {
            "properties": {
                tag: {"const": value},
                **{name: _without_null(properties[name]) for name in names},
                **{name: {"type": "null"} for name in sorted(all_required - {*names})},
            },
            "required": [*names] if properties[tag].get("default") == value else [tag, *names],
        }
        for value, names in requirements
    ]


def describe_unsupported_fields(
    schema: dict[str, Any], fields: Mapping[str, Sequence[object]]
) -> None:
    """
    Describes known fields that are accepted only with a value that requests nothing.

    Args:
        fields: By name, the values that request nothing.

    """
    schema["properties"] |= {
        name: {"description": "Not offered.", "enum": list(values)}
        for name, values in fields.items()
    }


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    choices = [choice for choice in schema.get("anyOf", [schema]) if choice.get("type") != "null"]
    return {"anyOf": choices} if len(choices) > 1 else choices[0]
