"""LlamaIndex's class for DeepInfra: `llama-index-llms-deepinfra`."""

# mypy: ignore-errors
# (what it imports is in another environment, where no checker runs)

from __future__ import annotations

import asyncio

import requests
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.llms.deepinfra import DeepInfraLLM
from record import ANSWER, KEY, MODEL, RAW, SUM, TOOLS_MODEL, URL, WEATHER, Record, error_of

record = Record("llama-index-llms-deepinfra", 'DeepInfraLLM(api_base="http://HOST")')
messages = [ChatMessage(role="user", content=SUM)]


def point(*, model=MODEL, key=KEY):
    return DeepInfraLLM(model=model, api_base=URL, api_key=key, temperature=0, max_retries=1)


llm = point()


def chat_whole():
    """A chat, whole; the raw answer shows the cost."""
    answer = llm.chat(messages)
    assert ANSWER == answer.message.content
    note(answer.raw["usage"])
    record.tried("whole")


def chat_stream():
    """The same in pieces: every chunk must have a choice."""
    pieces = list(llm.stream_chat(messages))
    assert ANSWER == "".join(piece.delta for piece in pieces)
    assert ANSWER == pieces[-1].message.content
    record.answered()
    record.tried("stream")


def complete():
    """A prompt without a template, whole and in pieces."""
    whole = llm.complete(RAW)
    assert whole.text.endswith(ANSWER)
    note(whole.raw["usage"])
    assert whole.text == list(llm.stream_complete(RAW))[-1].text
    record.answered()
    record.tried("completions")


def call_tools():
    """The model chooses a tool, and what to call it with."""

    def get_weather(city: str) -> str:
        """Get the weather in a city."""
        return f"It is sunny in {city}."

    tools = [FunctionTool.from_defaults(get_weather, description="Get the weather in a city.")]
    with_tools = point(model=TOOLS_MODEL)
    answer = with_tools.chat_with_tools(tools, user_msg=WEATHER[0]["content"])
    note(answer.raw["usage"])
    (call,) = with_tools.get_tool_calls_from_response(answer)
    assert ("get_weather", {"city": "Paris"}) == (call.tool_name, call.tool_kwargs)
    record.tried("tools")


async def chat_async():
    """Both again, asynchronously."""
    answer = await llm.achat(messages)
    assert ANSWER == answer.message.content
    note(answer.raw["usage"])
    stream = await llm.astream_chat(messages)
    assert ANSWER == "".join([piece.delta async for piece in stream])
    record.answered()
    record.tried("async")


def be_refused():
    """A refusal comes as the HTTP library's error, with its status."""
    error = error_of(requests.HTTPError, lambda: point(key="sh_wrong").chat(messages))
    assert 401 == error.response.status_code
    record.tried("wrong key")
    unknown = point(model="nobody/nothing")
    error = error_of(requests.HTTPError, lambda: list(unknown.stream_chat(messages)))
    assert 404 == error.response.status_code
    record.tried("unknown model")


def note(usage):
    record.answered(usage["prompt_tokens"], usage["completion_tokens"], usage["estimated_cost"])


chat_whole()
chat_stream()
complete()
asyncio.run(chat_async())
call_tools()
be_refused()
record.print()
