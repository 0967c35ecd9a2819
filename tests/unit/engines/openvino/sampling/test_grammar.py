"""Which tokens a grammar allows, token by token."""

from __future__ import annotations

import itertools
import json
import re
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llguidance import LLMatcher

from stillhouse.checkpoints.checkpoint import PACKAGED_CHECKPOINTS
from stillhouse.checkpoints.vocabulary import read_vocabulary
from stillhouse.clock import SystemClock
from stillhouse.engines.base import GenerateRequest, Grammar
from stillhouse.engines.openvino.sampling.grammar import MAX_GRAMMAR_CHARS, GrammarMatcher, Grammars
from stillhouse.errors import CheckpointError, InvalidRequestError
from tests.ascii_tokenizer import (
    END_ID,
    OTHER_END_ID,
    THINK_ID,
    TOKENS,
    ascii_tokenizer,
    text_of,
    write_ascii_tokenizer,
)
from tests.effort import examples

VOCAB_SIZE = len(TOKENS) + 5  # as models have more rows than there are tokens
ENDS = (END_ID, OTHER_END_ID)
DOUBLING = "start: A0\n" + "".join(f"A{n}: A{n + 1} A{n + 1}\n" for n in range(40)) + 'A40: "x"'

LATE_TROUBLE = json.dumps(
    {
        "grammars": [
            {
                "lark_grammar": 'start: /xyz[a-c]{3,8}/ "!" HUGE\n'
                "HUGE: /((((a{1000}){1000}){1000}){1000})/"
            }
        ]
    }
)

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    directory = tmp_path_factory.mktemp("ascii")
    write_ascii_tokenizer(directory)
    return read_vocabulary(directory / "tokenizer.json", VOCAB_SIZE)


@pytest.fixture
def matcher_of(vocabulary):
    return lambda text, **fields: make_matcher(vocabulary, text, **fields)


def make_matcher(vocabulary, text: str, *, stop_token_ids=ENDS, **fields) -> GrammarMatcher:
    return answer_of(Grammars(vocabulary, SystemClock()), Grammar(text, **fields), stop_token_ids)


_sequence_ids = itertools.count()


def answer_of(
    grammars: Grammars, grammar: Grammar, stop_token_ids=ENDS, *, salt: str = ""
) -> GrammarMatcher:
    """Return the matcher of one more sequence, once it is compiled."""
    sequence_id = next(_sequence_ids)
    request = GenerateRequest(
        "r", [1], 9, grammar=grammar, stop_token_ids=tuple(stop_token_ids), cache_salt=salt
    )
    is_there = threading.Event()
    grammars.thread.wake = is_there.set
    grammars.want(sequence_id, request)
    matcher = grammars.take(sequence_id, request)
    while matcher is None:
        is_there.wait()
        is_there.clear()
        matcher = grammars.take(sequence_id, request)
    return matcher


def schema(value) -> str:
    return LLMatcher.grammar_from_json_schema(value)


def regex(pattern: str) -> str:
    return LLMatcher.grammar_from_regex(pattern)


def lark(text: str) -> str:
    return json.dumps({"grammars": [{"lark_grammar": text}]})


def allowed(matcher: GrammarMatcher) -> set[int]:
    logits = np.zeros(VOCAB_SIZE, np.float32)
    matcher.apply(logits)
    assert {*logits} <= {0.0, -np.inf}
    return {int(token_id) for token_id in np.flatnonzero(logits == 0)}


def spell(matcher: GrammarMatcher, *token_ids: int) -> None:
    """Go on by tokens, each of which must be allowed."""
    for token_id in token_ids:
        assert token_id in allowed(matcher)
        matcher.advance(token_id)


def spell_text(matcher: GrammarMatcher, text: str) -> None:
    spell(matcher, *(TOKENS.index(letter) for letter in text))


def write(matcher: GrammarMatcher, seed: int, max_tokens: int = 400) -> list[int]:
    """Draw at random from what is allowed, up to an end token."""
    generator = np.random.default_rng(seed)
    token_ids: list[int] = []
    while len(token_ids) < max_tokens:
        token_ids.append(int(generator.choice(sorted(allowed(matcher)))))
        if token_ids[-1] in ENDS:
            break
        matcher.advance(token_ids[-1])
    return token_ids


@settings(deadline=None, max_examples=examples(50))
@given(seed=st.integers(0, 2**32))
def test_whatever_is_drawn_fits_the_schema(vocabulary, seed):
    """Any allowed tokens up to an end are JSON of the schema, without one special token inside."""
    matcher = make_matcher(vocabulary, schema(PERSON))
    *token_ids, end = write(matcher, seed)
    person = json.loads(text_of(token_ids))
    assert {"name", "age"} == person.keys()
    assert (str, int) == (type(person["name"]), type(person["age"]))
    assert {THINK_ID, *ENDS}.isdisjoint(token_ids)
    assert end in ENDS


@settings(deadline=None, max_examples=examples(50))
@given(seed=st.integers(0, 2**32))
def test_whatever_is_drawn_matches_the_regular_expression(vocabulary, seed):
    """Any allowed tokens up to an end are a full match."""
    pattern = r"(foo|[0-9]{2,5})(-[a-c]+)?!?"
    matcher = make_matcher(vocabulary, regex(pattern))
    *token_ids, end = write(matcher, seed, max_tokens=10_000)
    assert re.fullmatch(pattern, text_of(token_ids))
    assert end in ENDS


def test_an_end_token_is_allowed_exactly_where_the_grammar_accepts(matcher_of):
    """Before that none; where more could follow all of them beside it; in the end they alone."""
    matcher = matcher_of(regex("ab?(12)?"))
    assert {*ENDS}.isdisjoint(allowed(matcher))
    spell_text(matcher, "a")
    assert {*ENDS, TOKENS.index("b"), TOKENS.index("1"), TOKENS.index("12")} == allowed(matcher)
    spell_text(matcher, "1")
    assert {TOKENS.index("2")} == allowed(matcher)
    spell_text(matcher, "2")
    assert {*ENDS} == allowed(matcher)
    matcher.advance(END_ID)
    assert {*ENDS} == allowed(matcher)


def test_any_token_can_be_the_end(matcher_of):
    """A letter that ends the request is no letter of the grammar; one beyond it is ignored."""
    letter = TOKENS.index("b")
    matcher = matcher_of(regex("a[bc]*"), stop_token_ids=(letter, VOCAB_SIZE, -1))
    assert letter not in allowed(matcher)
    spell_text(matcher, "a")
    assert {letter, TOKENS.index("c")} == allowed(matcher)


def test_a_grammar_binds_after_its_token(matcher_of):
    """Up to and with the token everything is allowed, later occurrences are nothing special."""
    matcher = matcher_of(regex("a*"), after_token_id=THINK_ID)
    everything = {*range(VOCAB_SIZE)}
    assert everything == allowed(matcher)
    spell(matcher, TOKENS.index("x"), THINK_ID)
    assert {*ENDS, TOKENS.index("a")} == allowed(matcher)
    matcher.advance(TOKENS.index("a"))
    assert {*ENDS, TOKENS.index("a")} == allowed(matcher)


def test_special_tokens_are_no_text_but_can_be_named(matcher_of):
    """Text that reads like one is spelled out, and ``<[id]>`` is the token itself."""
    spelled = matcher_of(schema({"const": "<think>"}))
    *token_ids, _ = write(spelled, seed=0)
    assert '"<think>"' == text_of(token_ids)
    assert THINK_ID not in token_ids

    named = matcher_of(lark(f'start: "a" <[{THINK_ID}]> "b"'))
    spell(named, TOKENS.index("a"), THINK_ID, TOKENS.index("b"))
    assert {*ENDS} == allowed(named)


def test_a_special_token_among_the_words_is_no_spelling(tmp_path):
    """Llama 3 takes a word of its vocabulary whole; an added token that stands there is no word."""
    document: dict[str, Any] = ascii_tokenizer()
    document["model"] |= {
        "ignore_merges": True,
        "vocab": {**document["model"]["vocab"], "<think>": THINK_ID},
    }
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(document))
    vocabulary = read_vocabulary(path, VOCAB_SIZE)
    assert vocabulary is not None
    matcher = make_matcher(vocabulary, regex("<think>"))
    *token_ids, _ = write(matcher, seed=0)
    assert [TOKENS.index(letter) for letter in "<think>"] == token_ids


def test_a_forced_text_is_spelled_as_the_model_would(tmp_path):
    """Of the ways to spell what must come, only the vocabulary's own is allowed."""
    path = PACKAGED_CHECKPOINTS / "demo-r1" / "tokenizer.json"
    vocabulary = read_vocabulary(path, 2048)
    assert vocabulary is not None
    matcher = make_matcher(vocabulary, regex("braising and braising"), stop_token_ids=(1,))
    token_ids = []
    logits = np.zeros(2048, np.float32)
    for _ in range(20):
        ruled = logits.copy()
        matcher.apply(ruled)
        (token_id,) = np.flatnonzero(ruled == 0)
        if token_id == 1:
            break
        token_ids.append(int(token_id))
        matcher.advance(int(token_id))
    assert vocabulary.tokenize_str("braising and braising") == token_ids
    assert len(token_ids) < 10


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Empty"),
        ("{", "EOF"),
        ("{}", "grammars"),
        (json.dumps({"grammars": []}), "empty"),
        (regex("["), "regex"),
        (schema({"type": "nonsense"}), "nonsense"),
        (schema({"$ref": "https://example.com/schema.json"}), "not present"),
        (lark("start: <[999999]>"), "too large"),
        (lark("start: <unheard>"), "unknown special token"),
        (lark(DOUBLING), "too big"),
        (" " * (MAX_GRAMMAR_CHARS + 1), f"{MAX_GRAMMAR_CHARS} are allowed"),
    ],
)
def test_what_is_no_grammar_or_too_much_work_is_refused(matcher_of, text, message):
    """The error says why, before a token is drawn."""
    with pytest.raises(InvalidRequestError, match=message):
        matcher_of(text)


def test_a_grammar_that_takes_too_much_work_in_the_middle_says_so(matcher_of):
    """What is easy at first can become an error at any token, and stays one."""
    matcher = matcher_of(LATE_TROUBLE)
    spell_text(matcher, "xyzabc!a")
    for _ in range(2):
        with pytest.raises(InvalidRequestError, match="too many states"):
            allowed(matcher)


def test_a_matcher_that_was_told_what_is_not_allowed_says_so(matcher_of):
    """A mistake of ours ends one sequence, not the process."""
    matcher = matcher_of(regex("abc"))
    matcher.advance(TOKENS.index("z"))
    with pytest.raises(InvalidRequestError, match="cannot be followed"):
        allowed(matcher)


def test_one_accounts_text_does_not_fail_anothers(vocabulary):
    """Two accounts' requests of the same grammar have their limits to themselves."""
    grammars = Grammars(vocabulary, SystemClock())
    first = answer_of(grammars, Grammar(LATE_TROUBLE), salt="a")
    second = answer_of(grammars, Grammar(LATE_TROUBLE), salt="b")
    spell_text(first, "xyzabc!a")
    with pytest.raises(InvalidRequestError, match="too many states"):
        allowed(first)
    assert not first.is_shared
    spell_text(second, "xyzabcabc!")


def test_what_may_be_anothers_fault_is_said_to_be_shared(vocabulary):
    """One account's requests share a grammar's limits, and one that fails there can be retried."""
    grammars = Grammars(vocabulary, SystemClock())
    first = answer_of(grammars, Grammar(LATE_TROUBLE))
    second = answer_of(grammars, Grammar(LATE_TROUBLE))
    spell_text(first, "xyzabc!a")
    with pytest.raises(InvalidRequestError, match="too many states"):
        allowed(first)
    assert first.is_shared
    with pytest.raises(InvalidRequestError, match="too many states"):
        spell_text(second, "xyzabcabc!")
    assert second.is_shared


def test_each_request_of_a_grammar_is_where_it_is(vocabulary):
    """What is compiled once for all of them begins anew for each, and is not another grammar's."""
    grammars = Grammars(vocabulary, SystemClock())
    grammar = Grammar(regex("a*b?"))
    first = answer_of(grammars, grammar)
    spell_text(first, "ab")
    second = answer_of(grammars, grammar)
    spell_text(second, "aa")
    assert {*ENDS} == allowed(first)
    spell_text(second, "ab")
    other = answer_of(grammars, Grammar(regex("x")))
    assert {TOKENS.index("x")} == allowed(other)


def test_a_checkpoint_without_tokenizer_has_no_vocabulary(tmp_path):
    """An engine of tokens alone runs without it."""
    assert read_vocabulary(tmp_path / "tokenizer.json", VOCAB_SIZE) is None


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"model": {"vocab": []}}', '{"model": {"vocab": {"a": "b"}}}', "[" * 100_000],
)
def test_what_is_no_tokenizer_is_told(tmp_path, text):
    """The error names the file."""
    path = tmp_path / "tokenizer.json"
    path.write_text(text)
    with pytest.raises(CheckpointError, match=r"tokenizer\.json: is"):
        read_vocabulary(path, VOCAB_SIZE)


def test_tokens_beyond_the_model_are_left_out(tmp_path):
    """A vocabulary larger than the model's output offers no token that could not be drawn."""
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(ascii_tokenizer()))
    vocabulary = read_vocabulary(path, 50)
    assert vocabulary is not None
    matcher = make_matcher(vocabulary, regex("[a-zA-Z0-9]+"), stop_token_ids=(0,))
    logits = np.zeros(50, np.float32)
    matcher.apply(logits)
    letters = {number for number, token in enumerate(TOKENS[:50]) if token.isalnum()}
    assert letters == {*np.flatnonzero(logits == 0)}
