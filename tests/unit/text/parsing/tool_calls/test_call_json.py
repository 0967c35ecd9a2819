import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.text.parsing.tool_calls.call_json import JsonQuotes, is_object, read_call

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"name": "f", "arguments": {"a": 1}}', ("f", '{"a": 1}')),
        ('\n{ "arguments" : { "a":1.50 } , "name":"f" }\n', ("f", '{ "a":1.50 }')),
        ('{"name": "f", "parameters": {}}', ("f", "{}")),
        ('{"name": "f", "parameters": {"a": 1}, "arguments": {"b": 2}}', ("f", '{"b": 2}')),
        ('{"type": "function", "name": "a.b-c_1", "arguments": {}}', ("a.b-c_1", "{}")),
        ('{"name": "f", "arguments": "{\\"a\\": \\"\\u00e9\\"} "}', ("f", '{"a": "é"}')),
        ('{"name": "f", "arguments": {"a": "\\u00e9"}}', ("f", '{"a": "\\u00e9"}')),
        ('{"name": "f"}', ("f", "{}")),
        ('{"name": "f", "arguments": null}', ("f", "{}")),
        ('{"name": "f", "arguments": ""}', ("f", "{}")),
        (
            '{"name": "f", "arguments": {"a": ' + "9" * 5000 + "}}",
            ("f", '{"a": ' + "9" * 5000 + "}"),
        ),
    ],
)
def test_call_is_read_as_it_was_written(text, expected):
    """Arguments are a slice of the text; those in a string are the string's text."""
    assert expected == read_call(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "null",
        '{"name": "f", "arguments": {"a": 1}',
        '{"name": "f", "arguments": {"a": 1}} and more',
        '{"name": "f", "arguments": {"a": 1}}}',
        '{"name": "f",',
        '{"name": "f",}',
        '{"name": "f" "arguments": {}}',
        '{"name": "f", "arguments": [1]}',
        '{"name": "f", "arguments": "a"}',
        '{"name": "f", "arguments": "[]"}',
        '{"name": "f", "arguments": 5}',
        '{"name": "f", "arguments": {"a": NaN}}',
        '{"name": "f", "arguments": "{\\"a\\": \\"\\ud800\\"}"}',
        '{"name": "f", "arguments": {"a": "line\nbreak"}}',
        '{"name": "", "arguments": {}}',
        '{"name": "f g", "arguments": {}}',
        '{"name": 5, "arguments": {}}',
        '{"name": ["f"], "arguments": {}}',
        '{"arguments": {}}',
        '{1: 2, "name": "f"}',
        '{"name": "f", "arguments": ' + "[" * 100_000,
        '{"name": "f", "arguments": {"a": ' + "[" * 100_000 + "]" * 100_000 + "}}",
    ],
)
def test_what_is_no_call_is_none(text):
    """Broken JSON, JSON without end, and JSON that is something else, are no calls."""
    assert read_call(text) is None


@given(st.dictionaries(st.text(), VALUES, max_size=4), st.booleans(), st.integers(0, 3))
def test_any_arguments_are_cut_out_whole(arguments, ascii_only, indent):
    """Whatever the arguments hold and however they are laid out, their text is unchanged."""
    written = json.dumps(arguments, ensure_ascii=ascii_only, indent=indent or None)

    assert ("f", written) == read_call(f'{{"name": "f", "arguments": {written}, "x": "}}"}}')
    assert is_object(written)


@pytest.mark.parametrize("text", ["", "{", "[]", '"a"', "{} {}", '{"a": NaN}', '{"a":' * 99_999])
def test_only_a_whole_object_is_one(text):
    """Cut-off JSON, and JSON of another kind, is no object."""
    assert not is_object(text)


@given(st.lists(st.text('a"\\', max_size=4)))
def test_quotes_are_followed_through_any_pieces(pieces):
    """A string is open behind its opening quote until one that is not escaped."""
    quotes = JsonQuotes()
    for piece in pieces:
        quotes.push(piece)

    expected, is_escaped = False, False
    for letter in "".join(pieces):
        if letter == '"' and not is_escaped:
            expected = not expected
        is_escaped = letter == "\\" and not is_escaped
    assert expected == quotes.is_open
