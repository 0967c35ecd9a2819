"""A span of an answer's text, together with the tokens that wrote it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from stillhouse.types.logprobs import TokenLogprobs


class TokenSpan(NamedTuple):
    """A token, and which characters of a span are its own."""

    start: int
    end: int
    logprobs: TokenLogprobs


@dataclass(frozen=True, slots=True)
class TextSpan:
    """
    A span of an answer's text, together with the tokens that wrote it.

    Args:
        tokens: In order, each with one character at least; empty without log probabilities.

    """

    text: str
    tokens: tuple[TokenSpan, ...] = ()

    def cut(self, start: int, end: int | None = None) -> TextSpan:
        """The characters from *start* to *end*; a token that lies across a cut is on both sides."""
        stop = len(self.text) if end is None else end
        return TextSpan(
            self.text[start:stop],
            tuple(
                TokenSpan(
                    max(token.start, start) - start, min(token.end, stop) - start, token.logprobs
                )
                for token in self.tokens
                if token.start < stop and token.end > start
            ),
        )


EMPTY = TextSpan("")


def joined(spans: Sequence[TextSpan]) -> TextSpan:
    """Joins several spans into one."""
    tokens: list[TokenSpan] = []
    offset = 0
    for span in spans:
        tokens += [TokenSpan(s + offset, e + offset, logprobs) for s, e, logprobs in span.tokens]
        offset += len(span.text)
    return TextSpan("".join([span.text for span in spans]), tuple(tokens))
