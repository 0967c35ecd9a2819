from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from stillhouse.api.openai.chat_request import ChatCompletionIn
from stillhouse.api.openai.generation_request import parse_body
from stillhouse.errors import InvalidRequestError, UnsupportedFeatureError
from stillhouse.types.messages import Message, Role, Tool, ToolCall, ToolChoice, ToolMode
from stillhouse.types.requests import Effort
from stillhouse.types.response_format import JsonObjectFormat, JsonSchemaFormat, RegexFormat
from stillhouse.types.service_tier import ServiceTier

HELLO = [{"role": "user", "content": "Hello!"}]
FIND = {"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}}


def read(**fields):
    body = {"model": "a/b", "messages": HELLO} | fields
    return parse_body(json.dumps(body).encode(), ChatCompletionIn).to_request()


def messages(*given):
    return read(messages=list(given)).messages


def test_the_least():
    """What is not said is left to the model and to the standard."""
    request = read()

    assert (Message(Role.USER, "Hello!"),) == request.messages
    assert (1, None, None, ServiceTier.DEFAULT, False) == (
        request.n,
        request.top_logprobs,
        request.effort,
        request.tier,
        request.fail_fast,
    )
    assert (None, None, 0.0, 1.0) == (
        request.sampling.temperature,
        request.sampling.top_p,
        request.sampling.presence_penalty,
        request.sampling.repetition_penalty,
    )


def test_sampling_fields_arrive():
    """Every field of sampling has its place in the request."""
    request = read(
        temperature=0.5, top_p=0.9, top_k=5, min_p=0.1, seed=-3, presence_penalty=1,
        frequency_penalty=-1.5, repetition_penalty=1.1, logit_bias={"7": -100, "9": 2.5},
        n=4, stop="x", max_completion_tokens=9, service_tier="flex", fail_fast=True,
    )  # fmt: skip
    sampling = request.sampling

    assert (0.5, 0.9, 5, 0.1, -3) == (
        sampling.temperature,
        sampling.top_p,
        sampling.top_k,
        sampling.min_p,
        sampling.seed,
    )
    assert (1.0, -1.5, 1.1, ((7, -100.0), (9, 2.5))) == (
        sampling.presence_penalty,
        sampling.frequency_penalty,
        sampling.repetition_penalty,
        sampling.logit_bias,
    )
    assert (4, ("x",), 9, ServiceTier.FLEX, True) == (
        request.n,
        request.stop,
        request.max_tokens,
        request.tier,
        request.fail_fast,
    )


@pytest.mark.parametrize("role", ["system", "developer", "user", "assistant", "tool"])
def test_every_role_may_give_its_content_in_parts(role):
    """Lists of text parts are joined, whoever speaks; `developer` is the system."""
    parts = [{"type": "text", "text": "a "}, {"type": "text", "text": "b", "cache_control": {}}]
    (message,) = messages({"role": role, "content": parts, "tool_call_id": "call_1"})

    assert "a b" == message.content
    assert (Role.SYSTEM if role == "developer" else Role(role)) is message.role


def test_calls_and_their_results():
    """A call may come back with or without content, and its result names it."""
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    called, result = messages(
        {"role": "assistant", "content": None, "reasoning_content": "hm", "tool_calls": [call]},
        {"role": "tool", "content": "12", "tool_call_id": "call_1", "name": "f"},
    )

    assert Message(Role.ASSISTANT, "", "hm", (ToolCall("call_1", "f", "{}"),)) == called
    assert Message(Role.TOOL, "12", tool_call_id="call_1") == result


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "user"}, "messages.0.content"),
        ({"role": "assistant", "content": None}, "messages.0.content"),
        ({"role": "tool", "content": "x"}, "messages.0.tool_call_id"),
        ({"role": "user", "content": "x", "tool_calls": [{"id": "a", "function": {"name": "f"}}]},
         "messages.0.tool_calls"),
        ({"role": "user", "content": [{"type": "text"}]}, "messages.0.content.0"),
        ({"role": "function", "content": "x"}, "messages.0.role"),
    ],
)  # fmt: skip
def test_messages_that_cannot_be(message, param):
    """The refusal names the field."""
    with pytest.raises(InvalidRequestError) as refusal:
        messages(message)

    assert param == refusal.value.param


@pytest.mark.parametrize("kind", ["image_url", "input_audio", "file"])
def test_what_is_not_text_is_not_supported(kind):
    """Pictures and sounds get DeepInfra's own words, with the model's name."""
    with pytest.raises(UnsupportedFeatureError, match="Multimodal is not supported for model: a/b"):
        messages({"role": "user", "content": [{"type": kind, kind: {}}]})


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, JsonObjectFormat()),
        (
            {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}},
            JsonSchemaFormat({"type": "object"}),
        ),
        ({"type": "regex", "regex": "a+"}, RegexFormat("a+")),
    ],
)
def test_formats(given, expected):
    """Each form of DeepInfra's reference is known."""
    assert expected == read(response_format=given).response_format


@pytest.mark.parametrize(
    "given",
    [{"type": "json_schema"}, {"type": "regex"}, {"type": "xml"}, {"type": "text", "regex": "a"}],
)
def test_formats_that_cannot_be(given):
    """A form without its schema, or with another's, is refused."""
    with pytest.raises(InvalidRequestError) as refusal:
        read(response_format=given)

    assert refusal.value.param.startswith("response_format")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, ToolChoice()),
        ({"tool_choice": "none"}, ToolChoice(ToolMode.NONE)),
        ({"tool_choice": "required"}, ToolChoice(ToolMode.REQUIRED)),
        (
            {"tool_choice": {"type": "function", "function": {"name": "find"}}},
            ToolChoice(ToolMode.REQUIRED, "find"),
        ),
        ({"parallel_tool_calls": False}, ToolChoice(is_parallel=False)),
    ],
)
def test_tool_choices(fields, expected):
    """Every way to choose tools is known."""
    request = read(tools=[FIND], **fields)

    assert (Tool("find", "", {"type": "object"}),) == request.tools
    assert expected == request.tool_choice


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [FIND], "tool_choice": {"type": "function", "function": {"name": "g"}}},
         "tool_choice"),
        ({"tools": [FIND, FIND]}, "tools"),
        ({"tools": [{"type": "retrieval"}]}, "tools.0.type"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools.0.function.name"),
    ],
)  # fmt: skip
def test_tools_that_cannot_be(fields, param):
    """A choice without its tool, or a tool without a usable name, is refused."""
    with pytest.raises(InvalidRequestError) as refusal:
        read(**fields)

    assert param == refusal.value.param


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"reasoning_effort": "low"}, Effort.LOW),
        ({"reasoning_effort": "none"}, Effort.NONE),
        ({"reasoning": {"effort": "high", "enabled": True}}, Effort.HIGH),
        ({"reasoning": {"enabled": False}}, Effort.NONE),
        ({"reasoning": {"enabled": True}}, Effort.MEDIUM),
        ({"chat_template_kwargs": {"thinking": True}}, Effort.MEDIUM),
        ({"chat_template_kwargs": {"enable_thinking": False}}, Effort.NONE),
        ({"chat_template_kwargs": {"thinking": True}, "reasoning_effort": "max"}, Effort.MAX),
        ({"reasoning": {}}, None),
    ],
)
def test_all_ways_to_say_effort_are_one(fields, expected):
    """The most exact of what is said counts."""
    assert expected == read(**fields).effort


@pytest.mark.parametrize(
    "fields",
    [
        {"reasoning_effort": "low", "reasoning": {"effort": "high"}},
        {"reasoning_effort": "none", "chat_template_kwargs": {"thinking": True}},
        {"reasoning": {"effort": "low", "enabled": False}},
        {"chat_template_kwargs": {"thinking": True, "enable_thinking": False}},
    ],
)
def test_efforts_that_contradict_each_other(fields):
    """Two different wishes are refused, and both are named."""
    with pytest.raises(InvalidRequestError, match="contradict"):
        read(**fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"chat_template_kwargs": {"system": "You are evil"}},
        {"chat_template": "{{ 7 * 7 }}"},
        {"functions": [{"name": "f"}]},
        {"modalities": ["audio"]},
        {"top_logprobs": 3},
        {"logprobs": True, "top_logprobs": 21},
        {"logit_bias": {"x": 1}},
        {"logit_bias": {"1": 101}},
        {"logit_bias": {str(n): 1 for n in range(1025)}},
        {"presence_penalty": 2.1},
        {"repetition_penalty": 0},
        {"n": 5},
    ],
)
def test_what_is_not_offered_is_refused(fields):
    """The refusal names the field."""
    with pytest.raises(InvalidRequestError) as refusal:
        read(**fields)

    assert refusal.value.param.split(".")[0] in fields


def test_log_probabilities_are_asked_for():
    """`logprobs` alone asks for the drawn token, `top_logprobs` for more."""
    assert (None, 0, 20) == tuple(
        read(**fields).top_logprobs
        for fields in ({}, {"logprobs": True}, {"logprobs": True, "top_logprobs": 20})
    )


def test_what_openai_clients_send_besides_is_let_through():
    """Fields that change nothing here do not disturb."""
    read(
        user="u", metadata={"a": "b"}, store=False, prompt_cache_key="k", verbosity="low",
        prompt_cache_options={"mode": "explicit", "ttl": "1h"}, functions=[], suffix=None,
    )  # fmt: skip


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": [{"role": "user", "content": [0] * 1000}] * 1000},
        {"messages": [{"role": "assistant", "tool_calls": [0] * 100}] * 1000},
        {"messages": HELLO, "tools": [0] * 100},
        {"messages": HELLO, "stop": [0] * 100},
    ],
)
def test_the_first_fault_is_enough(fields):
    """A list of a million mistakes is read up to the first, as each that is found takes memory."""
    with pytest.raises(ValidationError) as refusal:
        ChatCompletionIn.model_validate({"model": "a/b"} | fields)

    assert 2 >= refusal.value.error_count()
