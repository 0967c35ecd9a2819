"""LangChain's class for OpenAI: `langchain-openai`."""

# mypy: ignore-errors
# (what it imports is in another environment, where no checker runs)

from __future__ import annotations

import asyncio

import openai
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from record import (
    ANSWER,
    KEY,
    MODEL,
    PARIS,
    SUM,
    TOOLS_MODEL,
    URL,
    VERDICT,
    WEATHER,
    Record,
    error_of,
)

record = Record("langchain-openai", 'ChatOpenAI(base_url="http://HOST/v1/openai")')


def point(*, model=MODEL, key=KEY):
    return ChatOpenAI(
        model=model, base_url=f"{URL}/v1/openai", api_key=key, temperature=0, max_retries=0
    )


llm = point()


def invoke():
    """An answer whole; the raw usage shows the cost."""
    answer = llm.invoke(SUM)
    assert ANSWER == answer.content
    usage = answer.response_metadata["token_usage"]
    record.answered(usage["prompt_tokens"], usage["completion_tokens"], usage["estimated_cost"])
    record.tried("whole")


def stream():
    """An answer in pieces; LangChain asks for usage by itself."""
    pieces = list(llm.stream(SUM))
    assert ANSWER == "".join(piece.content for piece in pieces)
    (usage,) = [piece.usage_metadata for piece in pieces if piece.usage_metadata]
    note(usage)
    record.tried("stream")


def ask_for_json():
    """An answer that must fit a schema."""
    schema = VERDICT | {"title": "Verdict", "description": "Whether it is even."}
    asked = llm.with_structured_output(schema, method="json_schema", include_raw=True)
    answer = asked.invoke(SUM)
    assert answer["parsed"]["is_even"] in ("yes", "no")
    note(answer["raw"].usage_metadata)
    record.tried("JSON schema")


@tool
def get_weather(city: str) -> str:
    """Get the weather in a city."""
    return PARIS if city == "Paris" else "{}"


def call_tools():
    """A tool is called, in a stream, and its result answered to."""
    with_tools = point(model=TOOLS_MODEL).bind_tools([get_weather])
    question = HumanMessage(WEATHER[0]["content"])
    first, *pieces = with_tools.stream([question])
    called = first
    for piece in pieces:
        called += piece
    note(called.usage_metadata)
    (call,) = called.tool_calls
    assert ("get_weather", {"city": "Paris"}) == (call["name"], call["args"])
    result = ToolMessage(get_weather.invoke(call["args"]), tool_call_id=call["id"])
    answer = with_tools.invoke([question, called, result])
    assert "18" in answer.content
    note(answer.usage_metadata)
    record.tried("tools")


async def invoke_async():
    """Two at once, asynchronously."""
    answers = await llm.abatch([SUM, SUM])
    for answer in answers:
        assert ANSWER == answer.content
        note(answer.usage_metadata)
    record.tried("async")


def be_refused():
    """Errors are those of the OpenAI client beneath."""
    error_of(openai.AuthenticationError, lambda: point(key="sh_wrong").invoke(SUM))
    record.tried("wrong key")
    unknown = point(model="nobody/nothing")
    error_of(openai.NotFoundError, lambda: list(unknown.stream(SUM)))
    record.tried("unknown model")


def note(usage):
    record.answered(usage["input_tokens"], usage["output_tokens"])


invoke()
stream()
ask_for_json()
asyncio.run(invoke_async())
call_tools()
be_refused()
record.print()
