from __future__ import annotations

import json

import pytest

from stillhouse.api.anthropic.blocks import BILLING_HEADER
from stillhouse.api.anthropic.messages import read_prompt
from stillhouse.api.anthropic.request import MessagesIn
from stillhouse.api.openai.generation_request import parse_body
from stillhouse.errors import InvalidRequestError, UnsupportedFeatureError
from stillhouse.types.messages import Message, Role, Tool, ToolCall, ToolChoice, ToolMode
from stillhouse.types.requests import Effort
from stillhouse.types.response_format import JsonSchemaFormat
from stillhouse.types.sampling import SamplingOverrides

HI = {"role": "user", "content": "Hi"}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
LOOK_UP = {"name": "look_up", "description": "Looks.", "input_schema": SCHEMA}
CACHED = {"cache_control": {"type": "ephemeral"}}


def read(**fields):
    body = json.dumps({"model": "m", "messages": [HI]} | fields).encode()
    return parse_body(body, MessagesIn).to_request()


def text(said):
    return {"type": "text", "text": said}


def test_the_least_that_is_asked():
    """Nothing but model and messages is needed, and nothing else is decided."""
    request = read()

    assert ("m", (Message(Role.USER, "Hi"),)) == (request.model, request.messages)
    assert (None, (), SamplingOverrides(), None, 1) == (
        request.max_tokens,
        request.stop,
        request.sampling,
        request.effort,
        request.n,
    )


def test_everything_that_is_honoured():
    """Each field of the body has its place in the request."""
    request = read(
        system=[text("Be "), text("brief.") | CACHED],
        max_tokens=7,
        stop_sequences=["\n\n"],
        temperature=0.5,
        top_p=0.9,
        top_k=40,
        metadata={"user_id": "u"},
        service_tier="standard_only",
        tools=[LOOK_UP | CACHED, LOOK_UP | {"name": "b", "type": "custom", "strict": True}],
        tool_choice={"type": "tool", "name": "b", "disable_parallel_tool_use": True},
        output_config={"format": {"type": "json_schema", "schema": SCHEMA}},
        cache_control={"type": "ephemeral"},
    )

    assert Message(Role.SYSTEM, "Be brief.") == request.messages[0]
    assert SamplingOverrides(temperature=0.5, top_p=0.9, top_k=40) == request.sampling
    assert (7, ("\n\n",)) == (request.max_tokens, request.stop)
    assert (
        Tool("look_up", "Looks.", SCHEMA),
        Tool("b", "Looks.", SCHEMA, is_strict=True),
    ) == request.tools
    assert ToolChoice(ToolMode.REQUIRED, "b", is_parallel=False) == request.tool_choice
    assert JsonSchemaFormat(SCHEMA) == request.response_format


def test_a_conversation_with_tools():
    """Thoughts and calls are the assistant's message; results come before what the user adds."""
    request = read(
        messages=[
            HI,
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "Hm.", "signature": ""},
                    {"type": "redacted_thinking", "data": "xyz"},
                    text("Let me look."),
                    {"type": "tool_use", "id": "c1", "name": "look_up", "input": {"city": "Köln"}},
                    {"type": "tool_use", "id": "c2", "name": "look_up", "input": {}},
                ],
            },
            {
                "role": "user",
                "content": [
                    text("And hurry."),
                    {"type": "tool_result", "tool_use_id": "c1", "content": "rain"} | CACHED,
                    {
                        "type": "tool_result",
                        "tool_use_id": "c2",
                        "content": [text("no "), text("city")],
                        "is_error": True,
                    },
                ],
            },
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c3"}]},
        ]
    )

    assert (
        Message(Role.USER, "Hi"),
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
        Message(Role.TOOL, "Error: no city", tool_call_id="c2"),
        Message(Role.USER, "And hurry."),
        Message(Role.TOOL, "", tool_call_id="c3"),
    ) == request.messages


def test_what_claude_code_sends_beside_a_prompt():
    """Its changing first line is left out, so that prefixes match; its later remarks stay late."""
    header = text(f"{BILLING_HEADER}: cc_version=1; cch=abc;")
    request = read(
        system=[header, text("Be brief.")],
        messages=[HI, {"role": "system", "content": "Plan mode."}],
        context_management={"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    )

    assert (
        Message(Role.SYSTEM, "Be brief."),
        Message(Role.USER, "Hi\n\nPlan mode."),
    ) == request.messages


def test_a_user_may_speak_of_billing_headers():
    """Only the system prompt loses such a line: what a user writes is never left out."""
    request = read(messages=[{"role": "user", "content": f"{BILLING_HEADER}?"}])

    assert (Message(Role.USER, f"{BILLING_HEADER}?"),) == request.messages


@pytest.mark.parametrize(
    ("fields", "effort"),
    [
        ({"thinking": {"type": "disabled"}}, Effort.NONE),
        ({"thinking": {"enabled": False}}, Effort.NONE),
        ({"thinking": {"enabled": True}}, Effort.MEDIUM),
        ({"thinking": {"type": "adaptive"}}, Effort.MEDIUM),
        ({"thinking": {}}, None),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, Effort.MINIMAL),
        ({"thinking": {"type": "enabled", "budget_tokens": 2000}}, Effort.LOW),
        ({"thinking": {"type": "enabled", "budget_tokens": 9999}}, Effort.MEDIUM),
        ({"thinking": {"type": "enabled", "budget_tokens": 32000}}, Effort.HIGH),
        ({"output_config": {"effort": "max"}}, Effort.MAX),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}, Effort.LOW),
        ({"thinking": {"type": "disabled"}, "output_config": {"effort": "low"}}, Effort.NONE),
    ],
)
def test_how_much_to_think(fields, effort):
    """Anthropic's budgets and DeepInfra's switch both become an effort; an exact one wins."""
    assert effort == read(**fields).effort


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"type": "auto"}, ToolChoice()),
        ({"type": "none"}, ToolChoice(ToolMode.NONE)),
        ({"type": "any"}, ToolChoice(ToolMode.REQUIRED)),
        ({"type": "auto", "disable_parallel_tool_use": True}, ToolChoice(is_parallel=False)),
    ],
)
def test_tool_choice(choice, expected):
    """Anthropic's words for it, and whether one call may follow another."""
    assert expected == read(tools=[LOOK_UP], tool_choice=choice).tool_choice


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "robot", "content": "Hi"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": [7]}]}, "messages.0.content.0"),
        ({"messages": [{"role": "user", "content": [{}]}]}, "messages.0.content.0.type"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
            "messages.0.content.0.text",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "tool_use"}]}]},
            "messages.0.content.0.type",
        ),
        (
            {"messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": "c"}]}]},
            "messages.0.content.0.name",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "tool_result"}]}]},
            "messages.0.content.0.tool_use_id",
        ),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "tool_result", "tool_use_id": "c", "content": [7]}],
                    }
                ]
            },
            "messages.0.content.0.content.0",
        ),
        ({"system": 7}, "system"),
        ({"system": [{"type": "tool_result", "tool_use_id": "c"}]}, "system.0.type"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"temperature": 2.1}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"top_k": 1000}, "top_k"),
        ({"stop_sequences": [""]}, "stop_sequences.0"),
        ({"stop_sequences": ["a"] * 17}, "stop_sequences"),
        ({"service_tier": "priority"}, "service_tier"),
        ({"tools": [{"name": "a"}]}, "tools.0.input_schema"),
        ({"tools": [LOOK_UP, LOOK_UP]}, "tools"),
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"tool_choice": {"type": "tool", "name": "x"}, "tools": [LOOK_UP]}, "tool_choice"),
        ({"thinking": {"type": "enabled", "enabled": False}}, "thinking"),
        ({"context_management": {"edits": [{"type": "compact"}]}}, "context_management.edits.0"),
        ({"mcp_servers": [{"url": "http://x"}]}, "mcp_servers"),
        ({"speed": "fast"}, "speed"),
        (
            {
                "output_format": {"type": "json_schema", "schema": {}},
                "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}},
            },
            "output_format",
        ),
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
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]},
            "messages.0.content.0",
        ),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {
                                "type": "tool_result",
                                "tool_use_id": "c",
                                "content": [{"type": "image", "source": {}}],
                            }
                        ],
                    }
                ]
            },
            "messages.0.content.0.content.0",
        ),
        (
            {
                "messages": [
                    {
                        "role": "assistant",
                        "content": [{"type": "web_search_tool_result", "content": {"error": 7}}],
                    }
                ]
            },
            "messages.0.content.0.type",
        ),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools.0.type"),
    ],
)
def test_what_is_not_offered_is_told_apart(fields, param):
    """Images, and tools that run on Anthropic's servers, are beyond the models here."""
    with pytest.raises(UnsupportedFeatureError) as caught:
        read(**fields)

    assert param == caught.value.param


def test_a_prompt_is_counted_with_all_that_makes_it():
    """A count of tokens sees the same prompt as the message that follows, and needs no limit."""
    fields = {
        "model": "m",
        "messages": [HI],
        "system": "Be brief.",
        "tools": [LOOK_UP],
        "thinking": {"type": "disabled"},
    }

    assert read(**fields) == read_prompt(json.dumps(fields).encode())
