"""Ends a text before the first of some strings, however the text arrives in pieces."""

from __future__ import annotations

import re
from collections.abc import Sequence

from stillhouse.errors import InvalidRequestError

MAX_STOP_STRINGS = 16  # DeepInfra's OpenAPI description
MAX_STOP_CHARS = 1024


class StopStrings:
    """
    Ends a text before the first of some strings, however the text arrives in pieces.

    The string that is complete first counts; of those that are complete at the same character,
    the longest. Nothing that may still turn out to begin one is let through.

    Raises:
        InvalidRequestError: Too many strings, an empty one, or one that is too long.

    """

    def __init__(self, strings: Sequence[str]) -> None:
        _check(strings)
        self._strings = tuple(strings)
        self._first_char = re.compile("|".join(re.escape(string[0]) for string in self._strings))
        self._max_held = max(map(len, self._strings), default=1) - 1
        self._held = ""
        self.met_string: str | None = None

    @property
    def met(self) -> bool:
        """Whether a stop string was complete."""
        return self.met_string is not None

    def push(self, text: str) -> str:
        """Adds *text* and returns the text that no stop string can cut off any more."""
        if not self._strings:
            return text
        if self.met:
            return ""
        pending = self._held + text
        if not self._first_char.search(pending):  # most tokens of most answers
            return pending
        first = self._first_in(pending)
        if first is not None:
            start, self.met_string = first
            self._held = ""
            return pending[:start]
        end = self._certain_end(pending)
        self._held = pending[end:]
        return pending[:end]

    def flush(self) -> str:
        """Returns the text that was held back, at the end of the text."""
        held, self._held = self._held, ""
        return held

    def _first_in(self, text: str) -> tuple[int, str] | None:
        found = [(start + len(s), start, s) for s in self._strings if (start := text.find(s)) >= 0]
        return min(found)[1:] if found else None

    def _certain_end(self, text: str) -> int:
        """Returns the start of the first span that may still become a stop string."""
        for match in self._first_char.finditer(text, max(0, len(text) - self._max_held)):
            if any(string.startswith(text[match.start() :]) for string in self._strings):
                return match.start()
        return len(text)


def _check(strings: Sequence[str]) -> None:
    if len(strings) > MAX_STOP_STRINGS:
        raise InvalidRequestError(
            f"stop holds {len(strings)} strings; at most {MAX_STOP_STRINGS} are allowed",
            param="stop",
        )
    if not all(0 < len(string) <= MAX_STOP_CHARS for string in strings):
        raise InvalidRequestError(
            f"each stop string must have 1 to {MAX_STOP_CHARS} characters", param="stop"
        )
