"""Known fields that are not offered, as the API's description tells of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def describe_unsupported_fields(
    schema: dict[str, Any], fields: Mapping[str, Sequence[object]]
) -> None:
    """
    Name fields in a body's JSON Schema that are accepted only where they ask for nothing.

    Args:
        fields: By name, the values that ask for nothing.

    """
    schema["properties"] |= {
        name: {"description": "Not offered.", "enum": list(values)}
        for name, values in fields.items()
    }
