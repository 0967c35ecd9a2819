"""Fields that are required beside a certain word, as the API's description tells of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

#: A word, and the names of the fields that it needs.
Needs = tuple[str, tuple[str, ...]]


def describe_required_fields(
    schema: dict[str, Any], tag: str, needs: Iterable[Needs], *, is_exclusive: bool = False
) -> None:
    """
    Say in an object's JSON Schema which fields go with which word, and that there are no others.

    Args:
        tag: The field that has the word.
        needs: A word that is there twice may have either set of fields.
        is_exclusive: Whether fields that one word needs are refused beside the others.

    """
    needs = tuple(needs)
    properties = schema["properties"]
    all_needed = {name for _, names in needs for name in names} if is_exclusive else set()
    schema["anyOf"] = [
        {
            "properties": {
                tag: {"const": word},
                **{name: _given(properties[name]) for name in names},
                **{name: {"type": "null"} for name in sorted(all_needed - {*names})},
            },
            "required": [*names] if properties[tag].get("default") == word else [tag, *names],
        }
        for word, names in needs
    ]


def _given(schema: dict[str, Any]) -> dict[str, Any]:
    """A field's schema without null."""
    ways = [way for way in schema.get("anyOf", [schema]) if way.get("type") != "null"]
    return {"anyOf": ways} if len(ways) > 1 else ways[0]
