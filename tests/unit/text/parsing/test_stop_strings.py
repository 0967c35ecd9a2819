from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.errors import InvalidRequestError
from stillhouse.text.parsing.stop_strings import StopStrings

SHORT = st.text("abc", min_size=1, max_size=4)


def _shown(strings: Sequence[str], pieces: Sequence[str]) -> tuple[str, bool]:
    stop = StopStrings(strings)
    text = "".join([stop.push(piece) for piece in pieces])
    return text + stop.flush(), stop.met


@given(st.lists(SHORT, max_size=4), st.lists(st.text("abc", max_size=6)))
def test_any_split_shows_the_same(strings, pieces):
    """However a text arrives, the same part of it is shown."""
    text = "".join(pieces)

    assert _shown(strings, list(text)) == _shown(strings, pieces) == _shown(strings, [text])


@given(st.lists(SHORT, min_size=1, max_size=4), st.text("abc", max_size=30))
def test_nothing_from_the_stop_string_on_is_shown(strings, text):
    """What is shown holds no stop string, and is followed by one exactly if one was met."""
    shown, met = _shown(strings, [text])

    assert not any(string in shown for string in strings)
    assert text.startswith(shown)
    assert met == any(text[len(shown) :].startswith(string) for string in strings)
    assert met == any(string in text for string in strings)


def test_first_complete_string_counts():
    """Of overlapping strings the one that is complete first ends the text."""
    assert ("a", True) == _shown(["abcd", "bc"], ["abcd"])


def test_text_that_may_begin_a_string_is_held_back():
    """A partial match is shown only once it has turned out to be none."""
    stop = StopStrings(["</end>"])

    assert ["Hello ", "", "</en", "<d"] == [stop.push(p) for p in ("Hello <", "/en", "<", "d")]


@pytest.mark.parametrize("strings", [[""], ["x" * 1025], ["x"] * 17])
def test_strings_beyond_the_limits_are_refused(strings):
    """Empty, over-long or too many stop strings are refused by name."""
    with pytest.raises(InvalidRequestError) as caught:
        StopStrings(strings)

    assert "stop" == caught.value.param


def test_sixteen_strings_are_allowed():
    """DeepInfra's limit of sixteen holds here."""
    assert ("ab", False) == _shown([str(n) * 1024 for n in range(10)] + ["x"] * 6, ["ab"])
