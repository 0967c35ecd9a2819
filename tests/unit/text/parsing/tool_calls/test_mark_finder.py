import re

from hypothesis import given
from hypothesis import strategies as st

from stillhouse.text.parsing.text_span import Stretch
from stillhouse.text.parsing.tool_calls.mark_finder import MarkFinder

MARKS = ("<a>", "</a>", "<｜ab｜>", "aab")


def _found(pieces):
    finder = MarkFinder(MARKS)
    found = [(p.stretch.text, p.is_mark) for piece in pieces for p in finder.push(Stretch(piece))]
    return [*found, (finder.flush().text, False)]


@given(st.lists(st.text("<>/ab｜", max_size=6) | st.sampled_from(MARKS)))
def test_marks_are_found_however_the_text_is_cut(pieces):
    """The same marks at the same places, and not a letter lost between them."""
    text = "".join(pieces)
    expected = re.split("(<a>|</a>|<｜ab｜>|aab)", text)

    marks = [""]
    for found, is_mark in _found(pieces):
        if is_mark:
            marks += [found, ""]
        else:
            marks[-1] += found

    assert expected == marks


def test_text_that_may_begin_a_mark_is_held_back():
    """A beginning is shown only once it has turned out to be none."""
    finder = MarkFinder(MARKS)

    shown = [[p.stretch.text for p in finder.push(Stretch(t))] for t in ("b<", "/", "b<a", ">c")]

    assert [["b"], [], ["</b"], ["<a>", "c"]] == shown
