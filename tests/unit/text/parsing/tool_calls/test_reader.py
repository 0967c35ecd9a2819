import json
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.text.parsing.output_parser import OutputParser
from stillhouse.types.events import FinishReason, ToolCallDelta
from stillhouse.types.tool_call_form import ToolCallForm
from tests.effort import examples
from tests.unit.text.answers import (
    ADDED_BYTES,
    DEEPSEEK,
    HERMES,
    LLAMA,
    TAGS,
    THINK,
    TOKEN_BYTES,
    cut,
    parser,
    read,
    reader,
    token_ids,
)

STOP, LENGTH, TOOL_CALLS = FinishReason.STOP, FinishReason.LENGTH, FinishReason.TOOL_CALLS
LIST, CALL, SEP, CALL_END, LIST_END = DEEPSEEK.tags


def _read(form: ToolCallForm, text: str, *, in_vocabulary: bool = True, at_limit: bool = False):
    ids = token_ids(text, in_vocabulary=in_vocabulary)
    answer = read(parser(calls=reader(form, in_vocabulary=in_vocabulary)), [ids], at_limit=at_limit)
    return answer.content, [call[1:] for call in answer.calls], answer.reason


def _deepseek(*calls: str) -> str:
    return LIST + "".join(f"{CALL}{call}{CALL_END}" for call in calls) + LIST_END


COOK = '{"name": "cook", "arguments": {"a": 1}}'
ROAST = '{"name": "roast", "arguments": {}}'


@pytest.mark.parametrize("in_vocabulary", [True, False])
@pytest.mark.parametrize(
    ("text", "content", "calls"),
    [
        (_deepseek(f'cook{SEP}{{"a": 1}}'), "", [("cook", '{"a": 1}')]),
        (_deepseek(f'cook{SEP}{{"a": 1}}', f"roast{SEP}{{}}"), "",
         [("cook", '{"a": 1}'), ("roast", "{}")]),
        (_deepseek(f' cook\n{SEP}\n {{"a": 1 }} \n'), "", [("cook", '{"a": 1 }')]),
        (_deepseek(f"cook{SEP}{{}}\n", f"roast{SEP}{{}}"), "",
         [("cook", "{}"), ("roast", "{}")]),
        (_deepseek(f"cook{SEP}"), "", [("cook", "{}")]),
        (_deepseek(f"unheard-of{SEP}{{}}"), "", [("unheard-of", "{}")]),
        (_deepseek(f'cook{SEP}{{"a": oops'), "", [("cook", '{"a": oops')]),
        (_deepseek(f'cook{SEP}{{"a": "{SEP}"}}'), "", [("cook", f'{{"a": "{SEP}"}}')]),
        (f"Wait.\n\n{_deepseek(f'cook{SEP}{{}}')}\n", "Wait.", [("cook", "{}")]),
        (f" \n{_deepseek(f'cook{SEP}{{}}')}\nDone.\n", " \n\nDone.", [("cook", "{}")]),
        (f"A {_deepseek(f'cook{SEP}{{}}')} B\n", "A  B", [("cook", "{}")]),
        (f"{CALL}cook{SEP}{{}}{CALL_END}", "", [("cook", "{}")]),
        (f"{LIST}{CALL}cook{SEP}{{}}{CALL}roast{SEP}{{}}{LIST_END}", "",
         [("cook", "{}"), ("roast", "{}")]),
        (f"{LIST}{CALL}cook{SEP}{{}}{LIST_END} Hi", " Hi", [("cook", "{}")]),
        (f"{LIST}\n{CALL}cook{SEP}{{}}{CALL_END}\n{LIST_END}{_deepseek(f'roast{SEP}{{}}')}", "",
         [("cook", "{}"), ("roast", "{}")]),
    ],
)  # fmt: skip
def test_deepseek_calls(in_vocabulary, text, content, calls):
    """Names and arguments between DeepSeek's tags are calls; what is around them is content."""
    expected = (content, calls, TOOL_CALLS)

    assert expected == _read(DEEPSEEK, text, in_vocabulary=in_vocabulary)


@pytest.mark.parametrize("in_vocabulary", [True, False])
@pytest.mark.parametrize(
    "text",
    [
        "Hi",
        LIST,
        f"{LIST}{LIST_END}",
        f"{LIST}Hi",
        f"{LIST}{CALL}",
        f"{LIST}{CALL}cook",
        f"{LIST}{CALL}cook{SEP}",
        f"{LIST}{CALL}cook{CALL_END}{LIST_END}",
        _deepseek(f"cook the lamb{SEP}{{}}"),
        _deepseek(f"{SEP}{{}}"),
        _deepseek(f'cook{SEP}"a"'),
        _deepseek(f"function{SEP}cook\n```json\n{{}}\n```"),
        f"a{SEP}b{CALL_END}c{LIST_END}",
        f"{LIST}{LIST}{CALL}{CALL}{LIST_END}",
    ],
)
def test_what_is_no_deepseek_call_is_content(in_vocabulary, text):
    """Nothing that a model writes is lost: tags that hold no call are told with their text."""
    assert (text, [], STOP) == _read(DEEPSEEK, text, in_vocabulary=in_vocabulary)


def test_deepseek_arguments_are_streamed():
    """The name comes with the first piece of the arguments, then each piece as it is written."""
    answer = parser(calls=reader(DEEPSEEK))

    deltas = [
        answer.push(token_ids(text)).tool_calls
        for text in (LIST, CALL, "co", "ok", SEP, "\n", ' {"a', '": ', "1}\n", CALL_END, LIST_END)
    ]

    first = ToolCallDelta(0, id="id0", name="cook", arguments="{")
    answer = [call for delta in deltas for call in delta]
    assert [0, 0, 0, 0, 0, 0, 3, 2, 2, 0, 0] == [len(delta) for delta in deltas]
    assert first == answer[0]
    assert [ToolCallDelta(0, arguments=text) for text in ('"', "a", '"', ":", " 1", "}")] == answer[
        1:
    ]


def test_deepseek_arguments_that_are_cut_off_stay():
    """At the limit a client gets what there is of the arguments, and the reason for it."""
    text = f'{LIST}{CALL}cook{SEP}{{"a": '

    assert ("", [("cook", '{"a":')], LENGTH) == _read(DEEPSEEK, text, at_limit=True)
    assert ("", [("cook", '{"a":')], STOP) == _read(DEEPSEEK, text)
    assert ("", [("cook", '{"a": 1}')], TOOL_CALLS) == _read(DEEPSEEK, text + "1}")


@pytest.mark.parametrize("in_vocabulary", [True, False])
@pytest.mark.parametrize(
    ("text", "content", "calls"),
    [
        (f"<tool_call>\n{COOK}\n</tool_call>", "", [("cook", '{"a": 1}')]),
        (f"<tool_call>{COOK}</tool_call>\n<tool_call>{ROAST}</tool_call>\n", "",
         [("cook", '{"a": 1}'), ("roast", "{}")]),
        (f"<tool_call>{COOK}<tool_call>{ROAST}", "", [("cook", '{"a": 1}'), ("roast", "{}")]),
        (f"Wait.\n\n<tool_call>{ROAST}</tool_call>\nDone.", "Wait.\n\n\nDone.", [("roast", "{}")]),
        (f"<tool_call>{{}}</tool_call><tool_call>{ROAST}</tool_call>",
         "<tool_call>{}</tool_call>", [("roast", "{}")]),
        ('<tool_call>{"name": "f", "arguments": {"a": 2.50}}</tool_call>', "",
         [("f", '{"a": 2.50}')]),
    ],
)  # fmt: skip
def test_hermes_calls(in_vocabulary, text, content, calls):
    """JSON between Hermes's tags is a call, its arguments unchanged to the letter."""
    expected = (content, calls, TOOL_CALLS)

    assert expected == _read(HERMES, text, in_vocabulary=in_vocabulary)


@pytest.mark.parametrize("in_vocabulary", [True, False])
@pytest.mark.parametrize(
    "text",
    [
        "<tool_call>",
        "<tool_call> \n",
        "Wait <tool_ca",
        "<tool_call>\n{oops}\n</tool_call>",
        '<tool_call>\n{"name": "cook", "argum',
        f"<tool_call>{COOK}}}</tool_call> and so on",
        f"{COOK}</tool_call>",
        "<tool_call><tool_call></tool_call></tool_call>",
    ],
)
def test_what_is_no_hermes_call_is_content(in_vocabulary, text):
    """Broken and cut-off calls are told as they were written, tags and all."""
    assert (text, [], STOP) == _read(HERMES, text, in_vocabulary=in_vocabulary)


def test_hermes_call_is_told_when_it_is_whole():
    """Nothing of a call is told before its closing tag."""
    answer = parser(calls=reader(HERMES))

    assert not answer.push(token_ids(f"<tool_call>{COOK}"))
    assert (ToolCallDelta(0, "id0", "cook", '{"a": 1}'),) == (
        answer.push(token_ids("</tool_call>")).tool_calls
    )


@pytest.mark.parametrize(
    ("text", "content", "calls"),
    [
        ('{"name": "cook", "parameters": {"a": 1}}', "", [("cook", '{"a": 1}')]),
        (f" \n{COOK}\n", "", [("cook", '{"a": 1}')]),
        ('{"type": "function", "name": "roast"}', "", [("roast", "{}")]),
        ('{"parameters": {}, "name": "roast"}', "", [("roast", "{}")]),
        ('{"name": "fry", "parameters": {}}', '{"name": "fry", "parameters": {}}', []),
        ('{"parameters": {}, "name": "fry"}', '{"parameters": {}, "name": "fry"}', []),
        ('{"name": "cook", "parameters": {', '{"name": "cook", "parameters": {', []),
        (f"{COOK}; {ROAST}", f"{COOK}; {ROAST}", []),
        (f"Sure: {COOK}", f"Sure: {COOK}", []),
        ('{"time": "name"}', '{"time": "name"}', []),
        (" \n", " \n", []),
        ("", "", []),
    ],
)
def test_llama_calls(text, content, calls):
    """An answer that is, as a whole, a call of one of the request's tools is one; else content."""
    assert (content, calls, TOOL_CALLS if calls else STOP) == _read(LLAMA, text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("H", "H"),
        (" ", ""),
        ("{", ""),
        ("[", "["),
        ('{"na', ""),
        ('{"nay', '{"nay'),
        ("{}", "{}"),
        ('{"time"', '{"time"'),
        ('{"name" : ', ""),
        ('{"name": "coo', ""),
        ('{"name": "cool', '{"name": "cool'),
        ('{"name": "coo"', '{"name": "coo"'),
        ('{"name": 5', '{"name": 5'),
        ('{"name": "cook", "x', ""),
        ('{"parameters": {"name": "x', ""),
    ],
)
def test_llama_answer_is_held_back_only_while_it_may_be_a_call(text, shown):
    """JSON for the user is streamed as soon as it can be no call."""
    answer = parser(calls=reader(LLAMA), tags=None)

    assert shown == answer.push(token_ids(text)).content
    assert text == shown + answer.finish().content


@pytest.mark.parametrize(
    ("form", "text", "arguments"),
    [
        (DEEPSEEK, _deepseek(f'cook{SEP}{{"a\\"": "{CALL_END}"}}'), f'{{"a\\"": "{CALL_END}"}}'),
        (
            HERMES,
            '<tool_call>{"name": "cook", "arguments": {"a": "</tool_call>"}}</tool_call>',
            '{"a": "</tool_call>"}',
        ),
    ],
)
def test_tags_that_are_no_tokens_may_stand_in_strings(form, text, arguments):
    """Where tags are found in the text, those in a string of JSON are a part of it."""
    assert ("", [("cook", arguments)], TOOL_CALLS) == _read(form, text, in_vocabulary=False)


@pytest.mark.parametrize(
    ("form", "in_vocabulary", "text", "content", "calls"),
    [
        (HERMES, ["<tool_call>"], f"</tool_<tool_call>{COOK}</tool_call>", "</tool_",
         [("cook", '{"a": 1}')]),
        (HERMES, ["<tool_call>"], f'<tool_call>{{"a<tool_call>{ROAST}</tool_call>',
         '<tool_call>{"a', [("roast", "{}")]),
        (DEEPSEEK, [CALL_END],
         f'{CALL}cook{SEP}{{"a{CALL_END}{CALL}roast{SEP}{{"b": "{CALL}"}}{CALL}',
         CALL, [("cook", '{"a'), ("roast", f'{{"b": "{CALL}"}}')]),
    ],
)  # fmt: skip
def test_vocabulary_that_has_some_of_the_tags(form, in_vocabulary, text, content, calls):
    """Tags that are tokens and tags that are text may go together."""
    answer = read(
        parser(calls=reader(form, in_vocabulary=in_vocabulary)),
        [token_ids(text, in_vocabulary=in_vocabulary)],
    )

    assert (content, calls) == (answer.content, [call[1:] for call in answer.calls])


def test_character_cut_by_a_tag_is_content():
    """What was begun before a call is told before it."""
    ids = [0xC3, *token_ids(f"<tool_call>{ROAST}</tool_call>")]

    answer = read(parser(calls=reader(HERMES)), [ids])

    assert ("\ufffd", [("id0", "roast", "{}")]) == (answer.content, [*answer.calls])


@pytest.mark.parametrize(
    ("text", "stop", "max_calls", "content", "num_calls"),
    [
        (f"Hi STOP<tool_call>{ROAST}</tool_call>", ["STOP"], None, "Hi ", 0),
        (f"<tool_call>{ROAST}</tool_call>STOP<tool_call>", ["STOP"], None, "", 1),
        (f"<tool_call>{ROAST}</tool_call><tool_call>{COOK}</tool_call>Hi", [], 1, "", 1),
    ],
)
def test_nothing_is_told_behind_the_end(text, stop, max_calls, content, num_calls):
    """A token that goes on behind the end of the answer is told up to there."""
    calls = reader(HERMES, in_vocabulary=False, max_calls=max_calls)
    answer = OutputParser({0: text.encode()}, tags=None, in_reasoning=False, stop=stop, calls=calls)

    answer = read(answer, [[0]])

    assert (content, num_calls, True) == (answer.content, len(answer.calls), answer.is_stopped)


def test_tags_are_known_by_their_tokens_alone():
    """What a model merely spells, letter by letter, is no tag where the vocabulary has one."""
    text = f"<tool_call>{COOK}</tool_call>"
    answer = parser(calls=reader(HERMES))

    assert text == read(answer, [list(text.encode())]).content


@pytest.mark.parametrize("in_vocabulary", [True, False])
@pytest.mark.parametrize("form", [DEEPSEEK, HERMES])
def test_enough_calls_end_the_answer(form, in_vocabulary):
    """The call that was one too many is never answer, and the engine can be stopped."""
    call = {DEEPSEEK: f"{CALL}cook{SEP}{{}}{CALL_END}", HERMES: f"<tool_call>{ROAST}</tool_call>"}
    answer = parser(calls=reader(form, in_vocabulary=in_vocabulary, max_calls=1))

    answer = read(answer, [token_ids(call[form] * 2 + "Hi", in_vocabulary=in_vocabulary)])

    assert (1, "", True, TOOL_CALLS) == (
        len(answer.calls), answer.content, answer.is_stopped, answer.reason
    )  # fmt: skip


def test_calls_have_a_bound():
    """A model that calls without end is stopped."""
    answer = parser(calls=reader(HERMES))

    answer = read(answer, [token_ids(f"<tool_call>{ROAST}</tool_call>" * 20)], at_limit=True)

    assert (16, True, TOOL_CALLS) == (len(answer.calls), answer.is_stopped, answer.reason)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text('a"\\ é🚀\n') | st.sampled_from([*TAGS]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text("ab"), inner, max_size=2),
    max_leaves=4,
)
ARGUMENTS = st.builds(
    lambda value, indent: json.dumps(value, ensure_ascii=False, indent=indent),
    st.dictionaries(st.text("ab{}"), JSON_VALUES, max_size=3),
    st.none() | st.just(2),
)


@settings(max_examples=examples(150), deadline=None)
@given(
    form=st.sampled_from([DEEPSEEK, HERMES, LLAMA]),
    in_vocabulary=st.booleans(),
    content=st.sampled_from(["", "Let me see.", "é {"]),
    calls=st.lists(st.tuples(st.sampled_from(["cook", "roast"]), ARGUMENTS), max_size=3),
    data=st.data(),
)
def test_calls_are_read_back_as_the_form_writes_them(*, form, in_vocabulary, content, calls, data):
    """What grammar and template write, the reader reads, whatever the arguments hold."""
    calls = calls[: form.max_calls]
    content = content if form.tags or not calls else ""
    ids = list(content.encode())
    if calls:
        ids += _written(form.begin, in_vocabulary=in_vocabulary)
        for index, (name, arguments) in enumerate(calls):
            ids += _written(form.separator if index else "", in_vocabulary=in_vocabulary)
            ids += [*_written(form.call_begin, in_vocabulary=in_vocabulary), *name.encode()]
            ids += _written(form.before_arguments, in_vocabulary=in_vocabulary)
            ids += [*arguments.encode()]  # letter by letter, whatever tags stand in its strings
            ids += _written(form.call_end, in_vocabulary=in_vocabulary)
        ids += _written(form.end, in_vocabulary=in_vocabulary)
    pieces = cut(ids, data.draw(st.sets(st.integers(0, len(ids)), max_size=5)))

    answer = read(parser(calls=reader(form, in_vocabulary=in_vocabulary)), pieces)

    assert (content, TOOL_CALLS if calls else STOP) == (answer.content, answer.reason)
    assert [(f"id{i}", *call) for i, call in enumerate(calls)] == [*answer.calls]


def _written(text: str, *, in_vocabulary: bool) -> list[int]:
    return token_ids(text, in_vocabulary=in_vocabulary)


PIECES = st.lists(
    st.sampled_from([
        *TAGS, COOK, ROAST, "cook", "{", "}", '{"a": "', '"', "\\", " ", "\n", "Hi", "é", "🚀",
        "STOP", "ST", "{}", '{"name": "', '", "arguments": ',
    ]),
    max_size=10,
)  # fmt: skip
FORMS = st.sampled_from([None, DEEPSEEK, HERMES, LLAMA])


@settings(max_examples=examples(300), deadline=None)
@given(
    form=FORMS,
    in_vocabulary=st.booleans(),
    in_reasoning=st.booleans(),
    parts=PIECES,
    broken=st.booleans(),
    stop=st.sampled_from([(), ("STOP",), ("<t", "i")]),
    has_logprobs=st.booleans(),
    at_limit=st.booleans(),
    data=st.data(),
)
def test_any_split_of_the_tokens_tells_the_same(
    *, form, in_vocabulary, in_reasoning, parts, broken, stop, has_logprobs, at_limit, data
):
    """Stream and whole answer are one parser's: where the pieces are cut changes nothing."""
    ids = token_ids("".join(parts), in_vocabulary=in_vocabulary)
    if broken and ids:
        del ids[data.draw(st.integers(0, len(ids) - 1))]
    cuts = data.draw(st.sets(st.integers(0, len(ids)), max_size=6))

    def told(pieces: Sequence[Sequence[int]]):
        calls = None if form is None else reader(form, in_vocabulary=in_vocabulary)
        answer = parser(calls=calls, in_reasoning=in_reasoning, stop=stop)
        return read(answer, pieces, at_limit=at_limit, has_logprobs=has_logprobs)

    assert told([ids]) == told(cut(ids, cuts)) == told([[i] for i in ids])


@settings(max_examples=examples(300), deadline=None)
@given(
    form=FORMS,
    in_vocabulary=st.booleans(),
    in_reasoning=st.booleans(),
    parts=PIECES,
    stop=st.sampled_from([(), ("STOP",), ("TO", "🚀")]),
)
def test_log_probabilities_are_those_of_the_content(
    *, form, in_vocabulary, in_reasoning, parts, stop
):
    """The tokens that are answer, put together, are the content: not a letter more or less."""
    calls = None if form is None else reader(form, in_vocabulary=in_vocabulary)
    answer = parser(calls=calls, in_reasoning=in_reasoning, stop=stop)
    ids = token_ids("".join(parts), in_vocabulary=in_vocabulary)

    answer = read(answer, [ids], has_logprobs=True)

    shown = b"".join(bytes([i]) if i < 256 else ADDED_BYTES[i] for i in answer.logprob_ids)
    assert answer.content == shown.decode()


@settings(max_examples=examples(300), deadline=None)
@given(
    form=FORMS,
    in_vocabulary=st.booleans(),
    in_reasoning=st.booleans(),
    parts=PIECES,
    stop=st.sampled_from([(), ("STOP",), ("<t", "i")]),
    data=st.data(),
)
def test_any_tokens_that_write_the_same_text_tell_the_same(
    *, form, in_vocabulary, in_reasoning, parts, stop, data
):
    """Tokens of several letters, parts of characters and parts of tags tell what bytes tell."""
    ids = token_ids("".join(parts), in_vocabulary=in_vocabulary)
    long_ids, token_bytes = _merged(ids, data.draw(st.sets(st.integers(0, len(ids)))))

    def told(ids: Sequence[int], token_bytes: Mapping[int, bytes]):
        calls = None if form is None else reader(form, in_vocabulary=in_vocabulary)
        answer = OutputParser(
            token_bytes, tags=THINK, in_reasoning=in_reasoning, stop=stop, calls=calls
        )
        return read(answer, [ids], has_logprobs=True)

    long = told(long_ids, token_bytes)
    assert told(ids, TOKEN_BYTES)._replace(logprob_ids=()) == long._replace(logprob_ids=())
    long_logprob_ids = [i for i in long.logprob_ids if i >= 1000]
    assert sorted(set(long_logprob_ids)) == long_logprob_ids  # in order, and none twice


def _merged(ids: list[int], cuts: set[int]) -> tuple[list[int], Mapping[int, bytes]]:
    """The bytes between two cuts, or beside tags, made one token each."""
    token_bytes = dict(TOKEN_BYTES)
    merged: list[int] = []
    is_open = False
    for position, token_id in enumerate(ids):
        if token_id > 255:
            merged.append(token_id)
        elif is_open and position not in cuts:
            token_bytes[merged[-1]] += bytes([token_id])
        else:
            merged.append(1000 + position)
            token_bytes[merged[-1]] = bytes([token_id])
        is_open = token_id <= 255
    return merged, token_bytes
