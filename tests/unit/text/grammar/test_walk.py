"""What is found out about a grammar before it is given to an engine."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llguidance import LLMatcher, LLTokenizer

from stillhouse.checkpoints.checkpoint import PACKAGED_CHECKPOINTS
from stillhouse.engines.grammar_limits import GRAMMAR_LIMITS
from stillhouse.errors import InvalidRequestError
from stillhouse.text.families.tool_call_forms import HERMES_CALLS
from stillhouse.text.grammar.walk import Walker
from stillhouse.types.messages import Tool, ToolChoice, ToolMode
from stillhouse.types.response_format import JsonSchemaFormat, RegexFormat
from tests.effort import examples
from tests.unit.text.grammar.grammars import grammar_of, tools_grammar

#: Where a word ends is open at every letter, which takes more work with each.
LATE_PATTERN = "^([a-z]{1,10} ?){1,100}$"
LATE = {"type": "string", "pattern": LATE_PATTERN}
TEXT = {"type": "string", "maxLength": 60}


@pytest.fixture(scope="module")
def tokenizer() -> LLTokenizer:
    path = PACKAGED_CHECKPOINTS / "demo-r1" / "tokenizer.json"
    return LLTokenizer(Path(path).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def fault_of(tokenizer):
    def fault_of(grammar: str) -> str | None:
        matcher = LLMatcher(tokenizer, grammar, log_level=0, limits=GRAMMAR_LIMITS)
        matcher.compute_bitmask()
        assert not matcher.is_error(), "it is found at the first token, without a walk"
        return Walker(tokenizer, GRAMMAR_LIMITS).fault_of(grammar, matcher)

    return fault_of


def of_schema(schema: dict[str, Any]) -> str:
    return grammar_of(JsonSchemaFormat(schema))


def members(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": [*properties],
        "additionalProperties": False,
    }


@pytest.mark.parametrize(
    "schema",
    [
        LATE,
        members(answer=TEXT, z=LATE),
        members(**{f"a{n}": {**TEXT, "minLength": 30} for n in range(20)}, z=LATE),
        members(a=TEXT, deep={"type": "array", "items": members(a=TEXT, z=LATE)}),
        members(a=TEXT, z={"anyOf": [TEXT, {"type": "null"}, LATE]}),
        {**members(a=TEXT, z={"$ref": "#/$defs/late"}), "$defs": {"late": LATE}},
        members(a=TEXT, z={"type": "object", "patternProperties": {LATE_PATTERN: TEXT}}),
        members(a=TEXT, z={"allOf": [{"type": "string"}, {"pattern": LATE_PATTERN}]}),
        {"type": "object", "properties": {f"p{n}": TEXT for n in range(850)}},
    ],
)
def test_work_that_comes_late_is_found(fault_of, schema):
    """However long the text before it, wherever in the schema it stands."""
    assert fault_of(of_schema(schema)) is not None


def test_work_that_comes_late_in_arguments_is_found(fault_of):
    """The parameters of a tool are a schema like any other."""
    tools = [Tool("a", parameters=members(a=TEXT)), Tool("b", parameters=members(a=TEXT, z=LATE))]
    grammar = tools_grammar(tools, ToolChoice(ToolMode.REQUIRED), HERMES_CALLS, lambda _: None)
    assert grammar is not None
    assert "too many expressions" in (fault_of(grammar) or "")


def test_work_that_comes_late_in_an_expression_is_found(fault_of):
    """As in a schema."""
    assert "too many expressions" in (fault_of(grammar_of(RegexFormat(LATE_PATTERN))) or "")


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"},
        {"type": "array", "items": {"type": "array", "items": TEXT, "maxItems": 1000}},
        members(a={"type": "array", "items": members(b=TEXT), "minItems": 1000}),
        members(**{f"a{n}": {"type": "string", "maxLength": 1000} for n in range(100)}),
        members(a={"type": "string", "format": "email"}, b={"type": "string", "format": "uuid"}),
        members(a={"type": "string", "pattern": "^[A-Z]{2,20}-\\d{1,6}$"}, b={"const": [1, {}]}),
        members(a={"enum": [f"value {n}" for n in range(900)]}),
        {"type": "object", "properties": {f"p{n}": TEXT for n in range(100)}},
    ],
)
def test_what_people_ask_for_passes(fault_of, schema):
    """Long lists of long strings, forms, enumerations, many members."""
    assert fault_of(of_schema(schema)) is None


def test_a_walk_is_the_same_each_time(tokenizer):
    """What is said of a grammar does not depend on when it is asked."""
    grammar = of_schema(members(a=TEXT, z={"type": "string", "pattern": "^(.*a.{20})$"}))
    faults = set()
    for _ in range(3):
        matcher = LLMatcher(tokenizer, grammar, log_level=0, limits=GRAMMAR_LIMITS)
        faults.add(Walker(tokenizer, GRAMMAR_LIMITS).fault_of(grammar, matcher))
    assert 1 == len(faults)


PATTERNS = st.recursive(
    st.one_of(
        st.sampled_from(["a", "[a-z]", "\\d", ".", "b?"]),
        st.builds("([a-z]{{1,{}}} ?){{1,{}}}".format, st.integers(10, 20), st.integers(60, 100)),
    ),
    lambda parts: st.one_of(
        st.tuples(parts, st.integers(1, 1000)).map(lambda p: f"(?:{p[0]}){{{p[1]}}}"),
        st.tuples(parts, st.integers(1, 1000)).map(lambda p: f"(?:{p[0]} ){{1,{p[1]}}}"),
        st.tuples(parts, parts).map("".join),
        st.tuples(parts, parts).map(lambda p: f"({p[0]}|{p[1]})"),
    ),
    max_leaves=5,
)
SCHEMAS = st.recursive(
    st.one_of(
        st.integers(0, 1000).map(lambda most: {"type": "string", "maxLength": most}),
        st.builds(
            lambda p, n: {"type": "string", "pattern": f"^{p}$", "maxLength": n},
            PATTERNS,
            st.integers(1, 1000),
        ),
        PATTERNS.map(lambda pattern: {"type": "string", "pattern": f"^{pattern}$"}),
    ),
    lambda parts: st.one_of(
        st.builds(
            lambda p, n: {"type": "array", "items": p, "maxItems": n}, parts, st.integers(1, 1000)
        ),
        st.lists(parts, min_size=1, max_size=3).map(
            lambda p: members(**{f"m{n}": s for n, s in enumerate(p)})
        ),
        st.lists(parts, min_size=1, max_size=3).map(lambda p: {"anyOf": p}),
    ),
    max_leaves=5,
)


@settings(deadline=None, max_examples=examples(60))
@given(schema=SCHEMAS, seed=st.integers(0, 2**32))
def test_what_passes_does_not_fail_at_the_next_corner(tokenizer, fault_of, schema, seed):
    """A grammar within bounds, whose check found nothing, carries answers of some tokens."""
    try:
        grammar = of_schema(schema)
    except InvalidRequestError:
        return
    matcher = LLMatcher(tokenizer, grammar, log_level=0, limits=GRAMMAR_LIMITS)
    matcher.compute_bitmask()
    if matcher.is_error() or fault_of(grammar):
        return
    draw = random.Random(seed)
    for _ in range(24):
        mask = matcher.compute_bitmask()
        assert "" == matcher.get_error(), json.dumps(schema)
        allowed = np.flatnonzero(np.unpackbits(np.frombuffer(mask, np.uint8), bitorder="little"))
        allowed = [int(t) for t in allowed if int(t) not in tokenizer.eos_tokens]
        if not allowed or matcher.is_stopped():
            break
        matcher.consume_token(draw.choice(allowed))
