import re

from hypothesis import given
from hypothesis import strategies as st

from stillhouse.text.parsing.text_span import TextSpan
from stillhouse.text.parsing.tool_calls.tag_finder import TagFinder

TAGS = ("<a>", "</a>", "<｜ab｜>", "aab")


def _found(pieces):
    finder = TagFinder(TAGS)
    found = [(p.span.text, p.is_tag) for piece in pieces for p in finder.push(TextSpan(piece))]
    return [*found, (finder.flush().text, False)]


@given(st.lists(st.text("<>/ab｜", max_size=6) | st.sampled_from(TAGS)))
def test_tags_are_found_however_the_text_is_cut(pieces):
    """The same tags at the same places, and not a letter lost between them."""
    text = "".join(pieces)
    expected = re.split("(<a>|</a>|<｜ab｜>|aab)", text)

    tags = [""]
    for found, is_tag in _found(pieces):
        if is_tag:
            tags += [found, ""]
        else:
            tags[-1] += found

    assert expected == tags


def test_text_that_may_begin_a_tag_is_held_back():
    """A beginning is shown only once it has turned out to be none."""
    finder = TagFinder(TAGS)

    shown = [[p.span.text for p in finder.push(TextSpan(t))] for t in ("b<", "/", "b<a", ">c")]

    assert [["b"], [], ["</b"], ["<a>", "c"]] == shown
