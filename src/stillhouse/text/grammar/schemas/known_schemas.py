"""Caches schemas that were checked before: the same one comes with every request."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import OrderedDict
from typing import Any

from stillhouse.types.json_object import JsonObject


class KnownSchemas:
    """
    Caches checked schemas by their text; thread-safe, and its results must not be changed.

    Args:
        max_chars: Most characters of their JSON together; in memory they take some ten times that.

    """

    def __init__(self, *, max_chars: int) -> None:
        self._max_chars = max_chars
        self._lock = threading.Lock()
        self._known: OrderedDict[bytes, tuple[dict[str, Any], int]] = OrderedDict()
        self._num_chars = 0

    def __len__(self) -> int:
        """Returns how many schemas are cached."""
        return len(self._known)

    def find(self, schema: JsonObject, *, is_strict: bool) -> dict[str, Any] | None:
        """Returns the checked schema of the same text and strictness; None if there is none."""
        text = _written(schema)
        if text is None:
            return None
        key = _digest(text, is_strict=is_strict)
        with self._lock:
            if key not in self._known:
                return None
            self._known.move_to_end(key)
            return self._known[key][0]

    def note(self, schema: JsonObject, bounded: dict[str, Any], *, is_strict: bool) -> None:
        """Caches a checked schema; evicts the least recently used ones."""
        text = _written(schema)
        if text is None or len(text) > self._max_chars:
            return
        key = _digest(text, is_strict=is_strict)
        with self._lock:
            if key in self._known:
                return
            self._known[key] = (bounded, len(text))
            self._num_chars += len(text)
            while self._num_chars > self._max_chars:
                _, (_, num_chars) = self._known.popitem(last=False)
                self._num_chars -= num_chars


def _written(schema: JsonObject) -> str | None:
    """The schema as JSON, members in their order; None where it cannot be written."""
    try:
        return json.dumps(schema, separators=(",", ":"))
    except (RecursionError, TypeError, ValueError):
        return None


def _digest(text: str, *, is_strict: bool) -> bytes:
    return hashlib.sha256(f"{is_strict} {text}".encode()).digest()
