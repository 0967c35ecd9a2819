from __future__ import annotations

from typing import Any

import pytest

from stillhouse.api.anthropic.request import PromptIn
from stillhouse.api.bodies.nested_json import json_text, raw_json
from stillhouse.api.responses.request import ResponseIn
from stillhouse.api.responses.response import echo_out
from stillhouse.errors import InvalidRequestError

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
