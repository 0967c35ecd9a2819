from __future__ import annotations

import json
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.api.anthropic.request import PromptIn
from stillhouse.api.bodies.json_body import (
    LONG_BODY_BYTES,
    MAX_BRACKETS,
    MAX_KEYS,
    MAX_VALUES,
    json_text,
    parse_json,
    raw_json,
)
from stillhouse.api.responses.request import ResponseIn
from stillhouse.api.responses.response import echo_out
from stillhouse.errors import InvalidRequestError

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(json_values, st.booleans())
def test_what_json_can_say_is_read(value, is_ascii):
    """Any value that JSON can carry comes back, escaped or not."""
    assert value == parse_json(json.dumps(value, ensure_ascii=is_ascii).encode())


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "Expecting value"),
        (b'{"a": 1, "a": 1}', "'a' is given twice"),
        (b'{"b": {"a": 1, "c": 2, "a": 3}}', "'a' is given twice"),
        (b'{"a": NaN}', "NaN"),
        (b"[-Infinity]", "-Infinity"),
        (b'{"a": "\\ud83d"}', "surrogate"),
        (b'["\\uDE00\\uD83D"]', "surrogate"),
        (b'{"\\ud83d": 1}', "surrogate"),
        (b'"\xff"', "byte 1 is not UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
        (b"9" * 5000, "4300"),
        (b'{"a": 1} {"b": 2}', "Extra data"),
        ("{\u00a0}".encode(), "Expecting"),
    ],
)
def test_what_parsers_disagree_about_is_refused(body, reason):
    """Each fault is named; nothing is repaired in silence."""
    with pytest.raises(InvalidRequestError, match=reason):
        parse_json(body)


def test_a_pair_of_surrogates_is_one_character():
    """An escaped character beyond the first plane is whole."""
    assert ["\U0001f600"] == parse_json(b'["\\ud83d\\ude00"]')


def test_a_pair_of_surrogates_beside_an_exact_amount():
    """Whatever numbers are read as, whole characters stay whole beside them."""
    body = rb'{"name": "\ud83d\ude00", "usd": 0.1}'
    assert {"name": "\N{GRINNING FACE}", "usd": Decimal("0.1")} == parse_json(
        body, parse_float=Decimal
    )


def test_a_pair_of_surrogates_however_deep():
    """There is no depth at which it can be read and yet not be looked through."""
    for depth in range(900, 1000):
        with suppress(InvalidRequestError):
            parse_json(b"[" * depth + rb'"\ud83d\ude00"' + b"]" * depth)


def test_far_too_many_keys_are_refused_unparsed():
    """A body of keys alone is refused by their number; a long text with colons is not."""
    keys = ",".join(f'"{n}" : 1' for n in range(MAX_KEYS + 1))
    with pytest.raises(InvalidRequestError, match=str(MAX_KEYS)):
        parse_json(f"{{{keys}}}".encode())

    text = json.dumps('a": ' * LONG_BODY_BYTES)
    assert LONG_BODY_BYTES * 4 == len(parse_json(text.encode()))


@pytest.mark.parametrize(
    ("body", "limit"),
    [
        (b"[" + b"[],   " * MAX_BRACKETS + b"0]", MAX_BRACKETS),
        (b"[" + b"{},   " * MAX_BRACKETS + b"0]", MAX_BRACKETS),
        (b"[" + b"0," * (MAX_VALUES + 1) + b"0]", MAX_VALUES),
        (b"[" + b'"",' * (MAX_VALUES + 1) + b"0]", MAX_VALUES),
    ],
)
def test_far_too_many_values_are_refused_unparsed(body, limit):
    """So many lists or numbers are refused before they are built."""
    with pytest.raises(InvalidRequestError, match=f"more than {limit} "):
        parse_json(body)


@pytest.mark.parametrize("text", ["[{,:", '\\"[{,:', "\\[{,:"])
def test_what_strings_hold_is_not_counted(text):
    """A long text of brackets, commas and escaped quotes is one value."""
    whole = text * LONG_BODY_BYTES
    assert [whole] == parse_json(json.dumps([whole]).encode())


@pytest.mark.parametrize("end", [b"", b"\\", b'\\"'])
def test_a_long_string_that_does_not_end(end):
    """Nothing after a quote is counted for structure, and the parser has the last word."""
    with pytest.raises(InvalidRequestError, match="not valid JSON"):
        parse_json(b'["' + b'\\",[' * LONG_BODY_BYTES + end)


DEEP: list[Any] = []
for _ in range(100_000):
    DEEP = [DEEP]
TOOL = {"type": "function", "name": "n", "parameters": {"a": DEEP}}
FORMAT = {"type": "json_schema", "schema": {"a": DEEP}}


def test_text_is_what_models_have_read():
    """Spaces as everywhere, and letters as they are."""
    assert '{"city": "Köln"}' == json_text({"city": "Köln"}, param="input")


@pytest.mark.parametrize("write", [json_text, raw_json])
def test_nesting_beyond_reason_is_a_fault_of_the_request(write):
    """What cannot be written is refused, and its field named."""
    with pytest.raises(InvalidRequestError) as caught:
        write(DEEP, param="tools.0.parameters")

    assert "tools.0.parameters" == caught.value.param


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [TOOL]}, "tools.0.parameters"),
        ({"text": {"format": FORMAT}}, "text.format.schema"),
    ],
)
def test_what_is_repeated_is_written_before_anything_is_generated(fields, param):
    """A schema that could not be repeated is refused, and not found out when it is paid for."""
    parsed = ResponseIn.model_validate({"model": "m", "input": "Hi"} | fields)

    with pytest.raises(InvalidRequestError) as caught:
        echo_out(parsed)

    assert param == caught.value.param


def test_calls_of_earlier_turns_are_written_for_the_prompt():
    """Arguments that could not be shown to the model are refused by their place."""
    call = {"type": "tool_use", "id": "c", "name": "n", "input": {"a": DEEP}}
    turns = [{"role": "assistant", "content": [call]}]

    with pytest.raises(InvalidRequestError) as caught:
        PromptIn.model_validate({"model": "m", "messages": turns}).to_request()

    assert "messages.0.content.0.input" == caught.value.param
