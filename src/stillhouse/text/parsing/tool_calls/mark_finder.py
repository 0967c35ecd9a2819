"""Finds marks that a vocabulary has no token for in text that comes in pieces."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import NamedTuple

from stillhouse.text.parsing.text_span import EMPTY, Stretch, joined


class Piece(NamedTuple):
    """A stretch that is one whole mark, or that holds none."""

    stretch: Stretch
    is_mark: bool


class MarkFinder:
    """
    Finds marks that a vocabulary has no token for in text that comes in pieces.

    Args:
        marks: None of them begins another.

    """

    def __init__(self, marks: Collection[str]) -> None:
        self._marks = tuple(marks)
        self._pattern = re.compile("|".join(map(re.escape, marks)))
        self._beginning = re.compile("|".join(re.escape(mark[0]) for mark in marks))
        self._max_held = max(map(len, marks)) - 1
        self._held = EMPTY

    def push(self, stretch: Stretch) -> Iterator[Piece]:
        """The pieces of the text so far that are certain, and have not been returned yet."""
        pending = joined([self._held, stretch])
        end = 0
        for match in self._pattern.finditer(pending.text):
            if match.start() > end:
                yield Piece(pending.cut(end, match.start()), is_mark=False)
            yield Piece(pending.cut(match.start(), match.end()), is_mark=True)
            end = match.end()
        certain_end = self._certain_end(pending.text, end)
        self._held = pending.cut(certain_end)
        if certain_end > end:
            yield Piece(pending.cut(end, certain_end), is_mark=False)

    def flush(self) -> Stretch:
        """What was held back, where no mark can be completed any more."""
        held, self._held = self._held, EMPTY
        return held

    def _certain_end(self, text: str, start: int) -> int:
        """Where the first stretch begins that may, with what follows, become a mark."""
        # A mark that began before the last few characters would be whole by now.
        first = max(start, len(text) - self._max_held)
        for match in self._beginning.finditer(text, first):
            if any(mark.startswith(text[match.start() :]) for mark in self._marks):
                return match.start()
        return len(text)
