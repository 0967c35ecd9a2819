"""A model that calls tools and fills JSON schemas, through the official OpenAI client."""

from __future__ import annotations

import json

import openai
import pytest

from stillhouse.catalogue.demo_models import DEMO_TOOLS_MODEL


def function(name, description, **parameters):
    schema = {"type": "object", "properties": parameters, "required": list(parameters)}
    return {
        "type": "function",
        "function": {"name": name, "description": description, "parameters": schema},
    }


WEATHER = function("get_weather", "Get the weather in a city.", city={"type": "string"})
ADD = function("add_numbers", "Add two numbers.", a={"type": "number"}, b={"type": "number"})
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer"},
        "city": {"type": "string"},
    },
    "required": ["name", "age", "city"],
    "additionalProperties": False,
}
ANNA = "Anna is 34 years old and lives in Rome. Reply in JSON with the keys name, age and city."


@pytest.fixture
def ask(server):
    with openai.OpenAI(base_url=f"{server.url}/v1/openai", api_key=server.key) as client:

        def create(text, **fields):
            messages = [{"role": "user", "content": text}] if isinstance(text, str) else text
            return client.chat.completions.create(
                model=DEMO_TOOLS_MODEL, messages=messages, temperature=0, **fields
            )

        yield create


def calls_in(answer):
    calls = answer.choices[0].message.tool_calls or []
    return [(call.function.name, json.loads(call.function.arguments)) for call in calls]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("What is the weather in Paris?", ("get_weather", {"city": "Paris"})),
        ("What is 12 plus 30?", ("add_numbers", {"a": 12, "b": 30})),
    ],
)
def test_it_calls_the_tool_that_fits(ask, text, expected):
    """Of two tools, the model itself chooses the one that the question is for."""
    answer = ask(text, tools=[WEATHER, ADD])

    assert [expected] == calls_in(answer)
    assert ("tool_calls", None) == (
        answer.choices[0].finish_reason,
        answer.choices[0].message.content,
    )


def test_a_stream_of_a_call_is_the_call(ask):
    """Put together by index, the pieces of a stream are the call of the whole answer."""
    question = {"text": "What is the weather in Paris?", "tools": [WEATHER]}
    whole = ask(**question).choices[0].message.tool_calls[0]
    *chunks, last = ask(**question, stream=True)
    deltas = [d for c in chunks for d in c.choices[0].delta.tool_calls or ()]

    assert [0] * len(deltas) == [delta.index for delta in deltas]
    assert [whole.function.name] == [d.function.name for d in deltas if d.function.name]
    assert whole.function.arguments == "".join(d.function.arguments for d in deltas)
    assert 2 < len(deltas)
    assert "tool_calls" == last.choices[0].finish_reason
    assert 0 < last.usage.estimated_cost


def test_the_result_of_a_call_is_used(ask):
    """Given back, with the call's own id, the result ends up in the answer."""
    question = {"role": "user", "content": "What is the weather in Paris?"}
    called = ask([question], tools=[WEATHER]).choices[0].message
    result = {
        "role": "tool",
        "tool_call_id": called.tool_calls[0].id,
        "content": '{"temperature": 21, "condition": "sunny"}',
    }
    answer = ask([question, called.to_dict(), result], tools=[WEATHER])

    assert "stop" == answer.choices[0].finish_reason
    assert "21" in answer.choices[0].message.content
    assert "sunny" in answer.choices[0].message.content


def test_two_calls_or_one(ask):
    """A question for two cities is two calls, and one where they must not be parallel."""
    question = "What is the weather in Paris and in Rome?"
    paris, rome = (("get_weather", {"city": city}) for city in ("Paris", "Rome"))
    both = ask(question, tools=[WEATHER])

    assert [paris, rome] == calls_in(both)
    assert 2 == len({call.id for call in both.choices[0].message.tool_calls})
    assert [paris] == calls_in(ask(question, tools=[WEATHER], parallel_tool_calls=False))


def test_no_tool_is_needed_for_a_greeting(ask):
    """With tools on offer, the model may still just answer."""
    answer = ask("Hello!", tools=[WEATHER])

    assert ("stop", []) == (answer.choices[0].finish_reason, calls_in(answer))
    assert "Hello" in answer.choices[0].message.content


@pytest.mark.parametrize(
    "choice", ["required", {"type": "function", "function": {"name": "add_numbers"}}]
)
def test_a_call_can_be_demanded(ask, choice):
    """Even for a greeting there is a call, and its arguments fit the schema."""
    answer = ask("Hello!", tools=[WEATHER, ADD], tool_choice=choice)
    ((name, arguments), *_) = calls_in(answer)

    assert name in ({"get_weather", "add_numbers"} if choice == "required" else {"add_numbers"})
    assert arguments.keys() == ({"city"} if name == "get_weather" else {"a", "b"})


def test_a_call_can_be_forbidden(ask):
    """With tool_choice none the model does not even see the tools."""
    question = "What is the weather in Paris?"
    forbidden = ask(question, tools=[WEATHER], tool_choice="none")

    assert [] == calls_in(forbidden)
    assert ask(question).usage.prompt_tokens == forbidden.usage.prompt_tokens


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_schema_is_filled(ask, is_stream):
    """The answer is JSON that fits, with what the text said."""
    schema = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON}}
    answer = ask(ANNA, response_format=schema, stream=is_stream)
    content = (
        "".join(chunk.choices[0].delta.content or "" for chunk in answer)
        if is_stream
        else answer.choices[0].message.content
    )

    assert {"name": "Anna", "age": 34, "city": "Rome"} == json.loads(content)


def test_what_the_schema_wants_wins(ask):
    """The schema is enforced: unasked keys are filled, and only with the listed values."""
    schema = {
        "type": "object",
        "properties": {"mood": {"enum": ["glad", "sad"]}, "n": {"type": "integer", "maximum": 9}},
        "required": ["mood", "n"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}}
    filled = json.loads(ask(ANNA, response_format=form).choices[0].message.content)

    assert {"mood", "n"} == filled.keys()
    assert filled["mood"] in {"glad", "sad"}
    assert 9 >= filled["n"]


def test_it_thinks_when_asked_to(ask):
    """A hybrid model thinks with any effort but none, and by default does not."""
    thoughts = [
        getattr(ask("Hello!", **fields).choices[0].message, "reasoning_content", "")
        for fields in ({}, {"reasoning_effort": "high"}, {"reasoning_effort": "none"})
    ]

    assert [False, True, False] == [bool(thought) for thought in thoughts]
