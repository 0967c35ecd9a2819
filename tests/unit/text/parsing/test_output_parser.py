from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.text.families.base import ReasoningTagIds, ReasoningTags
from stillhouse.text.parsing.output_parser import OutputParser
from stillhouse.types.events import FinishReason, TextDelta
from stillhouse.types.logprobs import Logprob, StepLogprobs, TokenLogprobs
from tests.effort import examples
from tests.unit.text import answers

OPEN, CLOSE, END = 256, 257, 258
TAGS = ReasoningTagIds(open=OPEN, close=CLOSE)
TOKEN_BYTES = {byte: bytes([byte]) for byte in range(256)} | dict.fromkeys((OPEN, CLOSE, END), b"")
NAMED = {"[open]": [OPEN], "[close]": [CLOSE], "[end]": [END]}


def _ids(text: str) -> list[int]:
    """Token ids of text in which ``|`` stands before and after a named token."""
    return [i for part in text.split("|") for i in NAMED.get(part, list(part.encode()))]


def _parser(
    *, tags: ReasoningTagIds | None = TAGS, in_reasoning: bool = True, stop: Sequence[str] = ()
) -> OutputParser:
    return OutputParser(TOKEN_BYTES, tags=tags, in_reasoning=in_reasoning, stop=stop)


def _read(parser: OutputParser, pieces: Iterable[Sequence[int]]) -> tuple[str, str, int, bool]:
    deltas = [parser.push(piece) for piece in pieces] + [parser.finish()]
    return (
        "".join(delta.reasoning for delta in deltas),
        "".join(delta.content for delta in deltas),
        parser.reasoning_tokens,
        parser.stopped,
    )


@pytest.mark.parametrize(
    ("text", "reasoning", "content", "reasoning_tokens"),
    [
        ("hm|[close]|Hi|[end]|", "hm", "Hi", 3),
        ("\nhm\n\n|[close]|\n\nHi\n", "hm", "Hi\n", 6),
        ("a\n\nb\n|[close]|Hi", "a\n\nb", "Hi", 6),
        ("|[close]|Hi", "", "Hi", 1),
        ("\n\n|[close]|\n\nHi", "", "Hi", 3),
        ("a|[open]|b|[close]|c|[close]|d", "ab", "cd", 4),
        ("a|[close]|b|[open]|c", "a", "bc", 2),
        ("a|[close]||[open]|b|[close]|c", "ab", "c", 5),
        ("</think>|[close]|</think>", "</think>", "</think>", 9),
        ("|[close]|", "", "", 1),
        ("hm|[close]||[end]|", "hm", "", 3),
        ("", "", "", 0),
    ],
)
def test_answer_that_starts_in_reasoning(text, reasoning, content, reasoning_tokens):
    """Reasoning ends at the close tag's token; newlines around both parts are no part of them."""
    expected = (reasoning, content, reasoning_tokens, False)

    assert expected == _read(_parser(), [_ids(text)])


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

    assert expected == _read(_parser(in_reasoning=False), [_ids(text)])


def test_plain_answer_is_left_as_it_is():
    """A model without reasoning keeps its leading white space."""
    parser = _parser(tags=None, in_reasoning=False)

    assert ("", "\n Hi|\n", 0, False) == _read(parser, [list(b"\n Hi|\n"), [END]])


@pytest.mark.parametrize(
    ("text", "reasoning", "content"),
    [
        ("\n\nHi there\n|[end]|", "Hi there", "Hi there\n"),
        ("a|[close]||[open]|b", "ab", "b"),
        ("a STOP b", "a STOP b", "a "),
        ("\n", "", ""),
    ],
)
def test_reasoning_that_was_never_closed_is_told_again_as_content(text, reasoning, content):
    """A model that skipped its closing tag and ended by itself leaves no client without answer."""
    parser = _parser(stop=["STOP"])
    reasoned = parser.push(_ids(text))
    rest = parser.finish(at_limit=False)

    assert (reasoning, "") == (reasoned.reasoning, reasoned.content)
    assert ("", content) == (rest.reasoning, rest.content)
    assert FinishReason.STOP is parser.finish_reason(at_limit=False)


def test_reasoning_that_was_cut_off_is_not_told_again():
    """At the limit there is no answer yet, and the finish reason says so."""
    parser = _parser()

    assert "a\nb" == parser.push(list(b"a\nb\n")).reasoning
    assert not parser.finish(at_limit=True)
    assert FinishReason.LENGTH is parser.finish_reason(at_limit=True)


def test_reasoning_that_was_never_closed_is_not_told_again_behind_an_answer():
    """What came out as content is the answer; a stray opening tag behind it changes nothing."""
    parser = _parser()
    parser.push(_ids("hm|[close]|Hi|[open]|there"))

    assert not parser.finish(at_limit=False)


@pytest.mark.parametrize("at_limit", [True, False])
def test_calls_in_reasoning_that_was_never_closed_are_made(at_limit):
    """A model that calls without having closed its reasoning gets its call, unless cut off."""
    text = '<tool_call>{"name": "cook", "arguments": {}}</tool_call>'
    answer = answers.read(
        answers.parser(calls=answers.reader(answers.HERMES), in_reasoning=True),
        [answers.token_ids(text)],
        at_limit=at_limit,
    )

    assert (() if at_limit else (("id0", "cook", "{}"),)) == answer.calls


@pytest.mark.parametrize(("max_calls", "content"), [(None, "é \nö "), (1, "é")])
def test_reasoning_that_is_told_again_ends_where_content_would(max_calls, content):
    """Behind a stop string or enough calls nothing is answer, and characters are whole."""
    call = '<tool_call>{"name": "cook", "arguments": {}}</tool_call>'
    parser = answers.parser(
        calls=answers.reader(answers.HERMES, max_calls=max_calls),
        in_reasoning=True,
        stop=["STOP"],
    )
    answer = answers.read(parser, [answers.token_ids(f"é {call}\nö STOP{call}more")])

    assert (content, 1, True) == (answer.content, len(answer.calls), answer.is_stopped)


@pytest.mark.parametrize(
    ("text", "in_reasoning", "at_limit", "content"),
    [
        ("\nhm\n|[close]|\nHi\n", True, False, "<t>\nhm\n</t>\n\nHi\n"),
        ("\n|[close]|Hi", True, False, "<t>\n\n</t>\n\nHi"),
        ("|[open]|hm|[close]|Hi", False, False, "<t>\nhm\n</t>\n\nHi"),
        ("a\n|[close]||[open]|\nb\n|[close]|c", True, False, "<t>\na\n</t>\n\n<t>\nb\n</t>\n\nc"),
        ("hm\n", True, True, "<t>\nhm"),
        ("hm\n", True, False, "<t>\nhm\n</t>\n\nhm\n"),
        ("a STOP b|[close]|c STOP d", True, False, "<t>\na STOP b\n</t>\n\nc "),
        ("Hi", False, False, "Hi"),
    ],
)
def test_reasoning_in_content(text, in_reasoning, at_limit, content):
    """On demand the reasoning stands in the content, between tags, however it was laid out."""
    parser = OutputParser(
        TOKEN_BYTES,
        tags=TAGS,
        in_reasoning=in_reasoning,
        stop=["STOP"],
        reasoning_in_content=ReasoningTags("<t>", "</t>"),
    )
    deltas = [parser.opening(), *(parser.push([i]) for i in _ids(text))]
    deltas.append(parser.finish(at_limit=at_limit))

    assert content == "".join(delta.content for delta in deltas)
    assert not any(delta.reasoning for delta in deltas)


@pytest.mark.parametrize(
    ("text", "in_reasoning", "reasoning", "content"),
    [
        ("\nmore\n|[close]|\nHi", True, "\nmore", "Hi"),
        ("\n|[close]|Hi", True, "", "Hi"),
        ("\nmore", False, "", "\nmore"),
        ("|[open]|more", False, "", "more"),
    ],
)
def test_answer_that_goes_on_amid_what_the_prompt_has_begun(text, in_reasoning, reasoning, content):
    """Newlines between the prompt's own words and the model's are a part of what it says."""
    parser = OutputParser(
        TOKEN_BYTES, tags=TAGS, in_reasoning=in_reasoning, is_continuation=True, stop=()
    )
    answer = answers.read(parser, [_ids(text)])

    assert (reasoning, content) == (answer.reasoning, answer.content)


def test_reasoning_in_content_goes_on_without_another_tag():
    """The client has opened the reasoning in its own words, and is told what follows them."""
    parser = OutputParser(
        TOKEN_BYTES,
        tags=TAGS,
        in_reasoning=True,
        is_continuation=True,
        stop=(),
        reasoning_in_content=ReasoningTags(),
    )

    assert " hm\n</think>\n\nHi" == answers.read(parser, [_ids(" hm|[close]|Hi")]).content


def test_raw_answer_begins_with_its_prompt():
    """The echo is told first, with the choice that it belongs to, and no stop string ends it."""
    parser = OutputParser(
        TOKEN_BYTES, tags=None, in_reasoning=False, stop=["x"], choice=2, echo="ax<think>"
    )

    assert TextDelta("ax<think>", choice=2) == parser.opening()
    assert TextDelta("b", choice=2) == parser.push(list(b"bx"))
    assert TextDelta(choice=2) == parser.finish()


def test_nothing_is_told_before_the_first_token():
    """An answer that echoes nothing opens with an empty delta."""
    assert not _parser().opening()


@pytest.mark.parametrize("in_reasoning", [True, False])
def test_tokens_that_end_the_answer_are_not_shown(in_reasoning):
    """A token at which the engine was told to stop is no part of the answer, though it is text."""
    parser = OutputParser(
        TOKEN_BYTES, tags=TAGS, in_reasoning=in_reasoning, stop=(), stop_token_ids=[ord("c")]
    )
    answer = [parser.push(list(b"abc"), [StepLogprobs(-1.0)] * 3), parser.finish()]

    assert "ab" == "".join(delta.content for delta in answer)
    assert [*b"ab"] == [t.sampled.token_id for delta in answer for t in delta.logprobs]


def test_log_probabilities_name_their_tokens():
    """Drawn or only likely, tokens have their bytes; control tokens have their text."""
    parser = OutputParser(
        TOKEN_BYTES, tags=TAGS, in_reasoning=False, stop=(), added_bytes={END: b"<end>"}
    )
    step = StepLogprobs(-0.5, top=((97, -0.5), (END, -1.0), (999, -9.0)))

    delta = parser.push([97, END], [step, StepLogprobs(-0.25)])

    top = (Logprob(97, b"a", -0.5), Logprob(END, b"<end>", -1.0), Logprob(999, b"", -9.0))
    assert (TokenLogprobs(Logprob(97, b"a", -0.5), top),) == delta.logprobs


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (["hm", "|[close]|", "\n", "Hi", "\n", "|[end]|"], ["", "", "", "Hi", "\n", ""]),
        (["|[close]|", "é", "x"], ["", "é", "x"]),
        (["|[close]|a S", "TO", "P b"], ["a ", "", ""]),
        (["|[close]|a S", "TO", "x"], ["a ", "", "STOx"]),
    ],
)
def test_log_probabilities_come_with_their_text(pieces, expected):
    """Each delta has the tokens of the content that it tells, and nothing else has any."""
    parser = _parser(stop=["STOP"])

    deltas = [parser.push(ids, [StepLogprobs(-1.0)] * len(ids)) for ids in map(_ids, pieces)]

    assert expected == [delta.content for delta in deltas]
    assert expected == [
        b"".join(token.sampled.token_bytes for token in delta.logprobs).decode() for delta in deltas
    ]


def test_log_probabilities_of_a_character_come_together():
    """The tokens of one character are told when it is whole, or has turned out not to be."""
    parser = _parser(in_reasoning=False)
    deltas = [parser.push([i], [StepLogprobs(-1.0)]) for i in (0xC3, 0xA9, 0xC3)]
    deltas.append(parser.finish())

    assert [[], [0xC3, 0xA9], [], [0xC3]] == [
        [token.sampled.token_id for token in delta.logprobs] for delta in deltas
    ]


@pytest.mark.parametrize(
    ("stop", "at_limit", "reason"),
    [
        ((), False, FinishReason.STOP),
        ((), True, FinishReason.LENGTH),
        (("i",), True, FinishReason.STOP),
    ],
)
def test_finish_reason(stop, at_limit, reason):
    """A stop string that the last token completes counts before the limit."""
    parser = _parser(in_reasoning=False, stop=stop)
    parser.push(list(b"Hi"))

    assert reason is parser.finish_reason(at_limit=at_limit)


@settings(max_examples=examples(150))
@given(
    token_ids=st.lists(
        st.sampled_from([*b"ab\n\n ", OPEN, CLOSE, END, 999, *"é🚀".encode(), 0x80]),
        max_size=30,
    ),
    stop=st.lists(st.text("ab\né", min_size=1, max_size=3), max_size=3),
    in_reasoning=st.booleans(),
    inline_tags=st.none() | st.just(ReasoningTags()),
    has_logprobs=st.booleans(),
    data=st.data(),
)
def test_any_split_of_the_tokens_reads_the_same(
    *, token_ids, stop, in_reasoning, inline_tags, has_logprobs, data
):
    """One parser serves stream and whole answer: where the pieces are cut changes nothing."""
    cuts = data.draw(st.sets(st.integers(0, len(token_ids))))

    def read(pieces: Iterable[Sequence[int]]) -> answers.Answer:
        parser = OutputParser(
            TOKEN_BYTES,
            tags=TAGS,
            in_reasoning=in_reasoning,
            stop=stop,
            reasoning_in_content=inline_tags,
        )
        return answers.read(parser, pieces, has_logprobs=has_logprobs)

    pieces = answers.cut(token_ids, cuts)
    assert read([token_ids]) == read(pieces) == read([[i] for i in token_ids])


@given(
    st.lists(st.sampled_from([*b"ab\n\n ", OPEN, CLOSE, END, 999, *"é🚀".encode()]), max_size=30),
    st.lists(st.text("ab\né", min_size=1, max_size=3), max_size=3),
    st.booleans(),
)
def test_log_probabilities_change_nothing_else(token_ids, stop, in_reasoning):
    """Whoever asks for log probabilities reads the same answer as who does not."""
    with_logprobs, without = (
        answers.read(
            _parser(in_reasoning=in_reasoning, stop=stop), [token_ids], has_logprobs=has_logprobs
        )
        for has_logprobs in (True, False)
    )

    assert without == with_logprobs._replace(logprob_ids=())


def test_stop_string_ends_the_content_before_it():
    """What follows a stop string is never shown, not even in the same push."""
    expected = ("hm", "Sous vide", 3, True)

    assert expected == _read(_parser(stop=[", STOP"]), [_ids("hm|[close]|Sous vide, STOP, grill")])


def test_stop_string_in_reasoning_does_not_end_the_answer():
    """Stop strings are for what is answered, not for what is thought."""
    expected = ("a STOP b", "Hi", 9, False)

    assert expected == _read(_parser(stop=["STOP"]), [_ids("a STOP b|[close]|Hi")])


def test_tokens_after_a_stop_string_are_ignored():
    """The engine may be some tokens ahead; they change neither text nor counts."""
    parser = _parser(in_reasoning=False, stop=["x"])
    parser.push(list(b"ax"))

    assert not parser.push([OPEN, *b"more"])
    assert ("", "", 0, True) == _read(parser, [])


def test_partial_stop_string_is_shown_at_the_end():
    """Held back as a possible stop string, text is shown once the answer has ended without it."""
    parser = _parser(in_reasoning=False, stop=["STOP"])

    assert "a " == parser.push(list(b"a ST")).content
    assert "ST" == parser.finish().content


def test_character_cut_by_the_end_is_shown_as_replacement():
    """An answer that ends amid a character ends in U+FFFD, and a close tag ends one too."""
    assert ("a\ufffd", "b\ufffd", 3, False) == _read(
        _parser(), [[*b"a", 0xC3, CLOSE, *b"b", 0xF0, 0x9F]]
    )


def test_newlines_are_held_back_until_more_reasoning_comes():
    """A newline is shown only once it is clear that the reasoning does not end there."""
    parser = _parser()

    assert ["a", "", "\nb"] == [parser.push([byte]).reasoning for byte in b"a\nb"]
