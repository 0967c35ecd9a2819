"""Finds tags that a vocabulary has no token for in text that comes in pieces."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import NamedTuple

from stillhouse.text.parsing.text_span import EMPTY, TextSpan, joined


class Piece(NamedTuple):
    """A span that is one whole tag, or that holds none."""

    span: TextSpan
    is_tag: bool


class TagFinder:
    """
    Finds tags that a vocabulary has no token for in text that comes in pieces.

    Args:
        tags: None of them begins another.

    """

    def __init__(self, tags: Collection[str]) -> None:
        self._tags = tuple(tags)
        self._pattern = re.compile("|".join(map(re.escape, tags)))
        self._first_char = re.compile("|".join(re.escape(tag[0]) for tag in tags))
        self._max_held = max(map(len, tags)) - 1
        self._held = EMPTY

    def push(self, span: TextSpan) -> Iterator[Piece]:
        """Adds a span and yields the pieces that are certain now."""
        pending = joined([self._held, span])
        end = 0
        for match in self._pattern.finditer(pending.text):
            if match.start() > end:
                yield Piece(pending.cut(end, match.start()), is_tag=False)
            yield Piece(pending.cut(match.start(), match.end()), is_tag=True)
            end = match.end()
        certain_end = self._certain_end(pending.text, end)
        self._held = pending.cut(certain_end)
        if certain_end > end:
            yield Piece(pending.cut(end, certain_end), is_tag=False)

    def flush(self) -> TextSpan:
        """Returns the text that was held back, where no tag can be completed any more."""
        held, self._held = self._held, EMPTY
        return held

    def _certain_end(self, text: str, start: int) -> int:
        """Returns the start of the first span that may still become a tag."""
        # A tag that began before the last few characters would be whole by now.
        first = max(start, len(text) - self._max_held)
        for match in self._first_char.finditer(text, first):
            if any(tag.startswith(text[match.start() :]) for tag in self._tags):
                return match.start()
        return len(text)
