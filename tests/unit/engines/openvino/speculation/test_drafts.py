"""Draft tokens from what a sequence has said, beside a search without any cleverness."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.engines.openvino.speculation.drafts import (
    MAX_MATCH,
    MIN_MATCH,
    NO_DRAFT,
    Draft,
    find_draft,
)
from tests.effort import examples


def searched(token_ids: list[int], num_tokens: int) -> Draft:
    """Return what `find_draft` should, place by place."""
    for num_matched in range(min(MAX_MATCH, len(token_ids) - 1), MIN_MATCH - 1, -1):
        for end in range(len(token_ids) - 1, num_matched - 1, -1):
            if token_ids[end - num_matched : end] == token_ids[-num_matched:]:
                said = list(token_ids)
                for place in range(num_tokens):
                    said.append(said[end + place])
                copied = tuple(said[len(token_ids) :])
                return Draft(copied, num_matched) if copied else NO_DRAFT
    return NO_DRAFT


@settings(max_examples=examples(1000), deadline=None, derandomize=True)
@given(
    token_ids=st.lists(st.integers(0, 3), min_size=1, max_size=60),
    num_tokens=st.integers(0, 20),
)
def test_the_latest_of_the_longest_matches_is_copied(token_ids, num_tokens):
    """However often parts of the end stood before, the draft token is that of a plain search."""
    assert searched(token_ids, num_tokens) == find_draft(array("q", token_ids), num_tokens)


@pytest.mark.parametrize("token_ids", [[1], [1, 1], [1, 2, 3, 4], [5, 1, 7, 1]])
def test_nothing_is_drafted_where_nothing_repeats(token_ids):
    """A single token that stood before is not enough."""
    assert NO_DRAFT == find_draft(array("q", token_ids), 8)


def test_a_loop_goes_on_for_as_long_as_is_asked():
    """What follows the match runs into the end of the text, and is copied again."""
    assert Draft((1, 2, 3, 1, 2, 3, 1), 3) == find_draft(array("q", [1, 2, 3] * 2), 7)


def test_a_text_can_grow_after_it_was_looked_through():
    """No view of the tokens is left behind, which would make their array refuse to grow."""
    token_ids = array("q", [1, 2, 3, 1, 2])
    for _ in range(3):
        token_ids.extend(find_draft(token_ids, 2).token_ids)
    assert [1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2] == token_ids.tolist()


def test_a_draft_is_cut_from_its_end():
    """A draft is cut to its first tokens, and to nothing where there is room for none."""
    draft = Draft((1, 2, 3), 4)
    assert [NO_DRAFT, NO_DRAFT, Draft((1, 2), 4), draft] == [draft.cut(n) for n in (-1, 0, 2, 9)]
