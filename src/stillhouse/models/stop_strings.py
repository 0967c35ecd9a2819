from __future__ import annotations

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
        self._held = ""
        self.met = False

    def push(self, text: str) -> str:
        """What of the text so far is certain to be shown, and has not been returned yet."""
        if not self._strings:
            return text
        if self.met:
            return ""
        pending = self._held + text
        start = self._first_start(pending)
        if start is not None:
            self.met = True
            self._held = ""
            return pending[:start]
        num_held = self._num_held(pending)
        self._held = pending[len(pending) - num_held :]
        return pending[: len(pending) - num_held]

    def flush(self) -> str:
        """What was held back, at the end of the text."""
        held, self._held = self._held, ""
        return held

    def _first_start(self, text: str) -> int | None:
        found = [(start + len(s), start) for s in self._strings if (start := text.find(s)) >= 0]
        return min(found)[1] if found else None

    def _num_held(self, text: str) -> int:
        """Characters at the end that may begin a stop string."""
        return max(_overlap(text, string) for string in self._strings)


def _overlap(text: str, string: str) -> int:
    """Length of the longest end of *text* that begins *string*, without being all of it."""
    for length in range(min(len(text), len(string) - 1), 0, -1):
        if text.endswith(string[:length]):
            return length
    return 0


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
