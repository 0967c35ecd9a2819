"""The type of JSON objects that requests carry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: A JSON object from outside, parsed; its size and depth are bounded where it came in.
JsonObject = Mapping[str, Any]
