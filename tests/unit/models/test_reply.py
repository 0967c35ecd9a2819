from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.models.dialects.base import MarkIds
from stillhouse.models.reply import Reply

OPEN, CLOSE, END = 256, 257, 258
MARKS = MarkIds(open=OPEN, close=CLOSE)
TOKEN_BYTES = {byte: bytes([byte]) for byte in range(256)} | dict.fromkeys((OPEN, CLOSE, END), b"")
NAMED = {"[open]": [OPEN], "[close]": [CLOSE], "[end]": [END]}


def _ids(text: str) -> list[int]:
    """Token ids of text in which ``|`` stands before and after a named token."""
    return [i for part in text.split("|") for i in NAMED.get(part, list(part.encode()))]


def _reply(
    *, marks: MarkIds | None = MARKS, in_reasoning: bool = True, stop: Sequence[str] = ()
) -> Reply:
    return Reply(TOKEN_BYTES, marks=marks, in_reasoning=in_reasoning, stop=stop)


def _read(reply: Reply, pieces: Iterable[Sequence[int]]) -> tuple[str, str, int, bool]:
    deltas = [reply.push(piece) for piece in pieces] + [reply.finish()]
    return (
        "".join(delta.reasoning for delta in deltas),
        "".join(delta.content for delta in deltas),
        reply.reasoning_tokens,
        reply.stopped,
    )


@pytest.mark.parametrize(
    ("text", "reasoning", "content", "reasoning_tokens"),
    [
        ("hm|[close]|Hi|[end]|", "hm", "Hi", 3),
        ("\nhm\n\n|[close]|\n\nHi\n", "hm", "Hi\n", 6),
        ("a\n\nb\n|[close]|Hi", "a\n\nb", "Hi", 6),
        ("|[close]|Hi", "", "Hi", 1),
        ("\n\n|[close]|\n\nHi", "", "Hi", 3),
        ("still thinking\n", "still thinking", "", 15),
        ("a|[open]|b|[close]|c|[close]|d", "ab", "cd", 4),
        ("a|[close]|b|[open]|c", "a", "bc", 2),
        ("a|[close]||[open]|b|[close]|c", "ab", "c", 5),
        ("</think>|[close]|</think>", "</think>", "</think>", 9),
        ("", "", "", 0),
    ],
)
def test_answer_that_starts_in_reasoning(text, reasoning, content, reasoning_tokens):
    """Reasoning ends at the close mark's token; newlines around both parts are no part of them."""
    expected = (reasoning, content, reasoning_tokens, False)

    assert expected == _read(_reply(), [_ids(text)])


@pytest.mark.parametrize(
    ("text", "reasoning", "content", "reasoning_tokens"),
    [
        ("Hi", "", "Hi", 0),
        ("\n\nHi", "", "Hi", 0),
        ("|[open]|\nhm|[close]|Hi", "hm", "Hi", 5),
        ("\n|[open]|hm|[close]|Hi", "hm", "Hi", 4),
        ("Hi|[close]| there", "", "Hi there", 0),
    ],
)
def test_answer_that_starts_in_content(text, reasoning, content, reasoning_tokens):
    """A model that opens its reasoning itself may do so only before any content."""
    expected = (reasoning, content, reasoning_tokens, False)

    assert expected == _read(_reply(in_reasoning=False), [_ids(text)])


def test_plain_answer_is_left_as_it_is():
    """A model without reasoning keeps its leading white space."""
    reply = _reply(marks=None, in_reasoning=False)

    assert ("", "\n Hi|\n", 0, False) == _read(reply, [list(b"\n Hi|\n"), [END]])


@settings(max_examples=150)
@given(
    token_ids=st.lists(
        st.sampled_from([*b"ab\n\n ", OPEN, CLOSE, END, 999, *"é🚀".encode(), 0x80]),
        max_size=30,
    ),
    stop=st.lists(st.text("ab\né", min_size=1, max_size=3), max_size=3),
    in_reasoning=st.booleans(),
    data=st.data(),
)
def test_any_split_of_the_tokens_reads_the_same(token_ids, stop, in_reasoning, data):
    """One parser serves stream and whole answer: where the pieces are cut changes nothing."""
    cuts = sorted(data.draw(st.sets(st.integers(0, len(token_ids)))))
    bounds = zip([0, *cuts], [*cuts, len(token_ids)], strict=True)
    pieces = [token_ids[start:end] for start, end in bounds]

    def read(pieces: Iterable[Sequence[int]]) -> tuple[str, str, int, bool]:
        return _read(_reply(in_reasoning=in_reasoning, stop=stop), pieces)

    assert read([token_ids]) == read(pieces) == read([[i] for i in token_ids])


def test_stop_string_ends_the_content_before_it():
    """What follows a stop string is never shown, not even in the same push."""
    expected = ("hm", "Sous vide", 3, True)

    assert expected == _read(_reply(stop=[", STOP"]), [_ids("hm|[close]|Sous vide, STOP, grill")])


def test_stop_string_in_reasoning_does_not_end_the_answer():
    """Stop strings are for what is answered, not for what is thought."""
    expected = ("a STOP b", "Hi", 9, False)

    assert expected == _read(_reply(stop=["STOP"]), [_ids("a STOP b|[close]|Hi")])


def test_tokens_after_a_stop_string_are_ignored():
    """The engine may be some tokens ahead; they change neither text nor counts."""
    reply = _reply(in_reasoning=False, stop=["x"])
    reply.push(list(b"ax"))

    assert not reply.push([OPEN, *b"more"])
    assert ("", "", 0, True) == _read(reply, [])


def test_partial_stop_string_is_shown_at_the_end():
    """Held back as a possible stop string, text is shown once the answer has ended without it."""
    reply = _reply(in_reasoning=False, stop=["STOP"])

    assert "a " == reply.push(list(b"a ST")).content
    assert "ST" == reply.finish().content


def test_character_cut_by_the_end_is_shown_as_replacement():
    """An answer that ends amid a character ends in U+FFFD, and a close mark ends one too."""
    assert ("a\ufffd", "b\ufffd", 3, False) == _read(
        _reply(), [[*b"a", 0xC3, CLOSE, *b"b", 0xF0, 0x9F]]
    )


def test_newlines_are_held_back_until_more_reasoning_comes():
    """A newline is shown only once it is clear that the reasoning does not end there."""
    reply = _reply()

    assert ["a", "", "\nb"] == [reply.push([byte]).reasoning for byte in b"a\nb"]
