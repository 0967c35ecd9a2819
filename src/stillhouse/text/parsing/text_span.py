"""A stretch of an answer's text, together with the tokens that wrote it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from stillhouse.types.chat import TokenLogprobs


class Span(NamedTuple):
    """A token, and which characters of a stretch are its own."""

    start: int
    end: int
    logprobs: TokenLogprobs


@dataclass(frozen=True, slots=True)
class Stretch:
    """
    A stretch of an answer's text, together with the tokens that wrote it.

    Args:
        tokens: In order, each with one character at least; empty where nobody asks for them.

    """

    text: str
    tokens: tuple[Span, ...] = ()

    def cut(self, start: int, end: int | None = None) -> Stretch:
        """The characters from *start* to *end*; a token that lies across a cut is on both sides."""
        stop = len(self.text) if end is None else end
        return Stretch(
            self.text[start:stop],
            tuple(
                Span(max(token.start, start) - start, min(token.end, stop) - start, token.logprobs)
                for token in self.tokens
                if token.start < stop and token.end > start
            ),
        )


EMPTY = Stretch("")


def joined(stretches: Sequence[Stretch]) -> Stretch:
    """One stretch of several."""
    tokens: list[Span] = []
    offset = 0
    for stretch in stretches:
        tokens += [Span(s + offset, e + offset, logprobs) for s, e, logprobs in stretch.tokens]
        offset += len(stretch.text)
    return Stretch("".join([stretch.text for stretch in stretches]), tuple(tokens))
