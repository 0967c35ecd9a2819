"""The official Anthropic client: `anthropic`."""

# mypy: ignore-errors
# (what it imports is in another environment, where no checker runs)

from __future__ import annotations

import asyncio

import anthropic
from record import (
    ANSWER,
    CITY,
    KEY,
    MESSAGES,
    MODEL,
    PARIS,
    TOOLS_MODEL,
    URL,
    WEATHER,
    Record,
    error_of,
)

record = Record("anthropic", 'Anthropic(base_url="http://HOST/anthropic")')
settings = {"base_url": f"{URL}/anthropic", "api_key": KEY, "max_retries": 0}
client = anthropic.Anthropic(**settings)
# Its methods know no temperature any more, but the API does.
GREEDY = {"temperature": 0}
asked = {"model": MODEL, "max_tokens": 1024, "messages": MESSAGES, "extra_body": GREEDY}


def ask_whole():
    """An answer whole, with its thinking as a block of its own."""
    message = client.messages.create(**asked)
    thinking, text = message.content
    assert ("thinking", "text") == (thinking.type, text.type)
    assert (ANSWER, "end_turn") == (text.text, message.stop_reason)
    note(message.usage)
    record.tried("whole")
    assert "42" in thinking.thinking
    record.tried("reasoning")


def ask_stream():
    """An answer in pieces, put together again by the client."""
    with client.messages.stream(**asked) as stream:
        text = "".join(stream.text_stream)
        message = stream.get_final_message()
    assert (ANSWER, ANSWER) == (text, message.content[-1].text)
    note(message.usage)
    record.tried("stream")


async def ask_async():
    """The asynchronous client."""
    async with anthropic.AsyncAnthropic(**settings) as asynchronous:
        message = await asynchronous.messages.create(**asked)
    assert ANSWER == message.content[-1].text
    note(message.usage)
    record.tried("async")


def count_tokens():
    """What a prompt would count, before it is sent and for nothing."""
    counted = client.messages.count_tokens(model=MODEL, messages=MESSAGES)
    assert 16 == counted.input_tokens
    record.tried("token count")


def call_tools():
    """A tool is called, in a stream, and its result answered to."""
    tool = {
        "name": "get_weather",
        "description": "Get the weather in a city.",
        "input_schema": CITY,
    }
    with_tools = asked | {"model": TOOLS_MODEL, "tools": [tool]}
    with client.messages.stream(**with_tools | {"messages": WEATHER}) as stream:
        called = stream.get_final_message()
    note(called.usage)
    call = called.content[-1]
    assert ("tool_use", "tool_use") == (call.type, called.stop_reason)
    assert ("get_weather", {"city": "Paris"}) == (call.name, call.input)
    result = {"type": "tool_result", "tool_use_id": call.id, "content": PARIS}
    messages = [
        *WEATHER,
        {"role": "assistant", "content": called.content},
        {"role": "user", "content": [result]},
    ]
    message = client.messages.create(**with_tools | {"messages": messages})
    assert "18" in message.content[-1].text
    note(message.usage)
    record.tried("tools")


def be_refused():
    """Errors become the client's own, by status."""
    wrong = client.with_options(api_key="sh_wrong").messages
    error_of(anthropic.AuthenticationError, lambda: wrong.create(**asked))
    record.tried("wrong key")
    unknown = asked | {"model": "nobody/nothing", "stream": True}
    error = error_of(anthropic.NotFoundError, lambda: client.messages.create(**unknown))
    assert "nobody/nothing" in error.body["error"]["message"]
    record.tried("unknown model")


def note(usage):
    record.answered(usage.input_tokens + (usage.cache_read_input_tokens or 0), usage.output_tokens)


ask_whole()
ask_stream()
asyncio.run(ask_async())
count_tokens()
call_tools()
be_refused()
record.print()
