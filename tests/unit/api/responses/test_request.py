from __future__ import annotations

import json

import pytest

from stillhouse.api.openai.generation_request import parse_body
from stillhouse.api.responses.request import ResponseIn
from stillhouse.api.responses.responses import read_prompt
from stillhouse.errors import InvalidRequestError, UnsupportedFeatureError
from stillhouse.types.messages import Message, Role, Tool, ToolCall, ToolChoice, ToolMode
from stillhouse.types.requests import Effort
from stillhouse.types.response_format import JsonObjectFormat, JsonSchemaFormat
from stillhouse.types.sampling import SamplingOverrides
from stillhouse.types.service_tier import ServiceTier

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
LOOK_UP = {"type": "function", "name": "look_up", "description": "Looks.", "parameters": SCHEMA}


def read(**fields):
    body = json.dumps({"model": "m", "input": "Hi"} | fields).encode()
    return parse_body(body, ResponseIn).to_request()


def message(role, content):
    return {"type": "message", "role": role, "content": content}


def call(call_id, name="look_up", arguments="{}"):
    return {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments}


def output(call_id, said):
    return {"type": "function_call_output", "call_id": call_id, "output": said}


def test_the_least_that_is_asked():
    """Nothing but model and input is needed, and nothing else is decided."""
    request = read()

    assert ("m", (Message(Role.USER, "Hi"),)) == (request.model, request.messages)
    assert (None, SamplingOverrides(), None, None, ServiceTier.DEFAULT) == (
        request.max_tokens,
        request.sampling,
        request.effort,
        request.top_logprobs,
        request.tier,
    )


def test_everything_that_is_honoured():
    """Each field of the body has its place in the request."""
    request = read(
        instructions="Be brief.",
        max_output_tokens=7,
        temperature=0.5,
        top_p=0.9,
        top_logprobs=3,
        tools=[LOOK_UP, {"type": "function", "name": "b", "strict": True}],
        tool_choice={"type": "function", "name": "b"},
        parallel_tool_calls=False,
        text={"format": {"type": "json_schema", "name": "n", "schema": SCHEMA, "strict": True}},
        reasoning={"effort": "low", "summary": "auto"},
        service_tier="flex",
        store=False,
        truncation="disabled",
        include=["reasoning.encrypted_content"],
        metadata={"a": "b"},
        prompt_cache_key="k",
    )

    assert (Message(Role.SYSTEM, "Be brief."), Message(Role.USER, "Hi")) == request.messages
    assert SamplingOverrides(temperature=0.5, top_p=0.9) == request.sampling
    assert (7, 3, Effort.LOW) == (request.max_tokens, request.top_logprobs, request.effort)
    assert (Tool("look_up", "Looks.", SCHEMA), Tool("b", is_strict=True)) == request.tools
    assert ToolChoice(ToolMode.REQUIRED, "b", is_parallel=False) == request.tool_choice
    assert JsonSchemaFormat(SCHEMA) == request.response_format
    assert ServiceTier.FLEX is request.tier


def test_all_that_is_said_before_the_user_is_one_message():
    """Instructions and a developer's message are one: some templates know but one of them."""
    developer = {"role": "developer", "content": "In German."}
    request = read(instructions="Be brief.", input=[developer, message("user", "Hi")])

    assert (
        Message(Role.SYSTEM, "Be brief.\n\nIn German."),
        Message(Role.USER, "Hi"),
    ) == request.messages


def test_forms_of_text():
    """A schema binds, an object is any object, and text is free."""
    assert JsonObjectFormat() == read(text={"format": {"type": "json_object"}}).response_format
    assert read(text={"format": {"type": "text"}}).response_format is None


def test_log_probabilities_are_asked_for_by_including_them():
    """OpenAI's way to ask for them, without alternatives."""
    assert 0 == read(include=["message.output_text.logprobs"]).top_logprobs


def test_a_turn_is_one_message():
    """Reasoning, text and calls of one turn are one message of the assistant's."""
    request = read(
        input=[
            {"role": "developer", "content": "Be brief."},
            message(
                "user",
                [
                    {"type": "input_text", "text": "Weather "},
                    {"type": "input_text", "text": "in Köln?"},
                ],
            ),
            {
                "type": "reasoning",
                "id": "rs_1",
                "summary": [],
                "content": [{"type": "reasoning_text", "text": "Hm."}],
            },
            message(
                "assistant", [{"type": "output_text", "text": "Let me look.", "annotations": []}]
            ),
            call("c1", arguments='{"city": "Köln"}'),
            call("c2"),
            output("c1", "rain"),
            output("c2", [{"type": "input_text", "text": "no city"}]),
            {
                "type": "reasoning",
                "summary": [{"type": "summary_text", "text": "So."}],
                "encrypted_content": "xyz",
            },
            call("c3"),
            output("c3", ""),
            message("assistant", "Rain."),
            message("assistant", [{"type": "refusal", "refusal": "No more."}]),
            {"type": "reasoning", "summary": []},
        ]
    )

    assert (
        Message(Role.SYSTEM, "Be brief."),
        Message(Role.USER, "Weather in Köln?"),
        Message(
            Role.ASSISTANT,
            "Let me look.",
            reasoning="Hm.",
            tool_calls=(
                ToolCall("c1", "look_up", '{"city": "Köln"}'),
                ToolCall("c2", "look_up", "{}"),
            ),
        ),
        Message(Role.TOOL, "rain", tool_call_id="c1"),
        Message(Role.TOOL, "no city", tool_call_id="c2"),
        Message(Role.ASSISTANT, "", reasoning="So.", tool_calls=(ToolCall("c3", "look_up", "{}"),)),
        Message(Role.TOOL, "", tool_call_id="c3"),
        Message(Role.ASSISTANT, "Rain."),
        Message(Role.ASSISTANT, "No more."),
        Message(Role.ASSISTANT, ""),
    ) == request.messages


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": []}, "input"),
        ({"input": 7}, "input"),
        ({"input": [7]}, "input.0"),
        ({"input": [{"type": []}]}, "input.0.type"),
        ({"input": [{"content": "Hi"}]}, "input.0.role"),
        ({"input": [{"role": "tool", "content": "Hi"}]}, "input.0.role"),
        ({"input": [message("user", [{"type": "input_text"}])]}, "input.0.content.0.text"),
        ({"input": [{"type": "function_call", "call_id": "c"}]}, "input.0.name"),
        ({"input": [{"type": "function_call_output", "output": ""}]}, "input.0.call_id"),
        ({"max_output_tokens": -1}, "max_output_tokens"),
        ({"temperature": 2.1}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"include": ["everything"]}, "include.0"),
        ({"tools": [{"type": "function"}]}, "tools.0.name"),
        ({"tools": [LOOK_UP, LOOK_UP]}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "name": "x"}}, "tool_choice"),
        ({"tool_choice": {"type": "function", "name": []}}, "tool_choice"),
        ({"tool_choice": {"type": "allowed_tools"}}, "tool_choice"),
        ({"tool_choice": []}, "tool_choice"),
        ({"text": {"format": {"type": "json_schema", "name": "n"}}}, "text.format"),
        ({"text": {"format": {"type": "text", "schema": {}}}}, "text.format"),
        ({"text": {"verbosity": "low"}}, "text.verbosity"),
        ({"reasoning": {"effort": "much"}}, "reasoning.effort"),
        ({"reasoning": {"summary": "detailed"}}, "reasoning.summary"),
        ({"stream_options": {"include_obfuscation": True}}, "stream_options.include_obfuscation"),
        ({"service_tier": "scale"}, "service_tier"),
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"store": True}, "store"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": {"id": "conv_1"}}, "conversation"),
        ({"background": True}, "background"),
        ({"truncation": "auto"}, "truncation"),
        ({"prompt": {"id": "p"}}, "prompt"),
    ],
)
def test_what_is_wrong_is_named(fields, param):
    """Each field that cannot be honoured is refused by its name."""
    with pytest.raises(InvalidRequestError) as caught:
        read(**fields)

    assert param == caught.value.param
    assert not isinstance(caught.value, UnsupportedFeatureError)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": [message("user", [{"type": "input_image"}])]}, "input.0.content.0"),
        ({"input": [output("c", [{"type": "input_image"}])]}, "input.0.output.0"),
        ({"input": [{"type": "web_search_call", "output": 7}]}, "input.0.type"),
        ({"input": [{"type": "item_reference", "id": "rs_1"}]}, "input.0.type"),
        ({"tools": [{"type": "web_search"}]}, "tools.0.type"),
        ({"tools": [{"type": "custom", "name": "apply_patch"}]}, "tools.0.type"),
    ],
)
def test_what_is_not_offered_is_told_apart(fields, param):
    """Images, references, and tools of OpenAI's own are beyond what is here."""
    with pytest.raises(UnsupportedFeatureError) as caught:
        read(**fields)

    assert param == caught.value.param


def test_a_prompt_is_counted_with_all_that_makes_it():
    """A count of tokens sees the same prompt as the response that follows."""
    fields = {"model": "m", "input": "Hi", "instructions": "Be brief.", "tools": [LOOK_UP]}

    assert read(**fields) == read_prompt(json.dumps(fields).encode())
