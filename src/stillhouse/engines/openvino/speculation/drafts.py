"""Proposes draft tokens by prompt lookup: a sequence may repeat earlier tokens of its own."""

from __future__ import annotations

from array import array
from dataclasses import dataclass

import numpy as np

MIN_MATCH = 2
MAX_MATCH = 8


@dataclass(frozen=True, slots=True)
class Draft:
    """
    Draft tokens that may come next.

    Args:
        num_matched: Length of the match before the copied tokens, `MIN_MATCH` to `MAX_MATCH`;
            0 where there is no draft.

    """

    token_ids: tuple[int, ...]
    num_matched: int

    def cut(self, num_tokens: int) -> Draft:
        """Returns its first *num_tokens*."""
        return Draft(self.token_ids[:num_tokens], self.num_matched) if num_tokens > 0 else NO_DRAFT


NO_DRAFT = Draft((), 0)


def find_draft(token_ids: array[int], num_tokens: int) -> Draft:
    """
    Returns the tokens that followed the longest earlier match of the end of *token_ids*.

    Of equally long ones the latest is taken, as text tends to go on as it did last. Where it
    reaches into the end itself, as in a loop, it is repeated as often as is needed.

    All tokens are looked through. That needs no index to be kept, and reads 8 bytes for each of
    the tokens of which attention then reads kilobytes: 0.01 ms for 2,000, 0.1 ms for 100,000.

    Args:
        token_ids: At least one, of type ``q``.
        num_tokens: Tokens to return, if any.

    Source:
        Prompt lookup decoding: github.com/apoorvumang/prompt-lookup-decoding, 2023. Copying from
        one's own end: LZ77, Ziv and Lempel, IEEE Transactions on Information Theory 23 (1977).

    """
    begin, num_matched = _longest_match(token_ids)
    if num_matched < MIN_MATCH or num_tokens < 1:
        return NO_DRAFT
    copied = token_ids[begin : begin + num_tokens].tolist()
    num_repeats = -(-num_tokens // len(copied))
    return Draft(tuple((copied * num_repeats)[:num_tokens]), num_matched)


def _longest_match(token_ids: array[int]) -> tuple[int, int]:
    """Returns where the longest match of the end ends, and its length, at most `MAX_MATCH`."""
    # The view is gone when this returns: an array that is looked at cannot grow.
    tokens = np.frombuffer(token_ids, np.int64)
    ends, num_matched = np.flatnonzero(tokens[:-1] == tokens[-1]) + 1, 1
    if not len(ends):
        return 0, 0
    while num_matched < MAX_MATCH:
        ends_here = ends[ends > num_matched]
        ends_here = ends_here[tokens[ends_here - num_matched - 1] == tokens[-num_matched - 1]]
        if not len(ends_here):
            break
        ends, num_matched = ends_here, num_matched + 1
    return int(ends[-1]), num_matched
