"""The official OpenAI client: `openai`."""

# mypy: ignore-errors
# (what it imports is in another environment, where no checker runs)

from __future__ import annotations

import asyncio
import json
from typing import Literal

import openai
import pydantic
from record import (
    ANSWER,
    GET_WEATHER,
    KEY,
    MESSAGES,
    MODEL,
    PARIS,
    RAW,
    SUM,
    TOOLS_MODEL,
    URL,
    WEATHER,
    Record,
    error_of,
)

record = Record("openai", 'OpenAI(base_url="http://HOST/v1/openai")')
client = openai.OpenAI(base_url=f"{URL}/v1/openai", api_key=KEY, max_retries=0)


class Verdict(pydantic.BaseModel):
    """What structured answers must be."""

    is_even: Literal["yes", "no"]


def ask_whole():
    """An answer parses into the client's types, and shows what it cost."""
    answer = client.chat.completions.create(model=MODEL, messages=MESSAGES, temperature=0)
    assert ANSWER == answer.choices[0].message.content
    assert "stop" == answer.choices[0].finish_reason
    record.answered_with(answer.usage)
    record.tried("whole")
    assert "42" in answer.choices[0].message.reasoning_content
    record.tried("reasoning")


def ask_stream():
    """The pieces of a stream make the same answer; usage comes with the last of them."""
    chunks = list(
        client.chat.completions.create(model=MODEL, messages=MESSAGES, temperature=0, stream=True)
    )
    assert ANSWER == "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    record.answered_with(chunks[-1].usage)
    record.tried("stream")


def assemble_stream():
    """The client's own accumulator, which asks for usage on a chunk of its own."""
    with client.chat.completions.stream(
        model=MODEL, messages=MESSAGES, temperature=0, stream_options={"include_usage": True}
    ) as stream:
        answer = stream.get_final_completion()
    assert ANSWER == answer.choices[0].message.content
    record.answered_with(answer.usage)
    record.tried("stream helper")


async def ask_async():
    """The asynchronous client, on the shorter of the two paths."""
    async with openai.AsyncOpenAI(base_url=f"{URL}/v1", api_key=KEY, max_retries=0) as shorter:
        stream = await shorter.chat.completions.create(
            model=MODEL, messages=MESSAGES, temperature=0, stream=True
        )
        chunks = [chunk async for chunk in stream]
    assert ANSWER == "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    record.answered_with(chunks[-1].usage)
    record.tried("async")


def ask_for_several():
    """Several answers to one question, which is paid for once."""
    answer = client.chat.completions.create(model=MODEL, messages=MESSAGES, n=3)
    assert [0, 1, 2] == [choice.index for choice in answer.choices]
    record.answered_with(answer.usage)
    record.tried("n")


def ask_for_log_probabilities():
    """Each token of the answer with its likelihood and that of the runner-up."""
    answer = client.chat.completions.create(
        model=MODEL, messages=MESSAGES, temperature=0, logprobs=True, top_logprobs=2
    )
    tokens = answer.choices[0].logprobs.content
    assert ANSWER in "".join(token.token for token in tokens)
    assert all(token.logprob == token.top_logprobs[0].logprob <= 0 for token in tokens)
    record.answered_with(answer.usage)
    record.tried("log probabilities")


def ask_for_json():
    """An answer that must fit a class, and is parsed into it."""
    answer = client.chat.completions.parse(
        model=MODEL, messages=MESSAGES, temperature=0, response_format=Verdict
    )
    assert answer.choices[0].message.parsed.is_even in ("yes", "no")
    record.answered_with(answer.usage)
    record.tried("JSON schema")


def call_tools():
    """A tool is called, in a stream, and its result answered to."""
    asked = {"model": TOOLS_MODEL, "tools": [GET_WEATHER], "temperature": 0}
    with client.chat.completions.stream(
        **asked, messages=WEATHER, stream_options={"include_usage": True}
    ) as stream:
        called = stream.get_final_completion()
    record.answered_with(called.usage)
    (call,) = called.choices[0].message.tool_calls
    assert "tool_calls" == called.choices[0].finish_reason
    assert ("get_weather", {"city": "Paris"}) == (
        call.function.name,
        json.loads(call.function.arguments),
    )
    result = {"role": "tool", "tool_call_id": call.id, "content": PARIS}
    answer = client.chat.completions.create(
        **asked, messages=[*WEATHER, called.choices[0].message, result]
    )
    assert "18" in answer.choices[0].message.content
    record.answered_with(answer.usage)
    record.tried("tools")


def complete_raw():
    """A prompt without a template goes on as it is, whole and in pieces."""
    asked = {"model": MODEL, "prompt": RAW, "temperature": 0, "max_tokens": 100}
    whole = client.completions.create(**asked)
    assert whole.choices[0].text.endswith(ANSWER)
    record.answered_with(whole.usage)
    chunks = list(client.completions.create(**asked, stream=True))
    assert whole.choices[0].text == "".join(chunk.choices[0].text for chunk in chunks)
    record.answered_with(chunks[-1].usage)
    record.tried("completions")


def respond():
    """The Responses API, whole and in pieces."""
    whole = client.responses.create(model=MODEL, input=SUM, temperature=0)
    assert ANSWER == whole.output_text
    record.answered(whole.usage.input_tokens, whole.usage.output_tokens)
    with client.responses.stream(model=MODEL, input=SUM, temperature=0) as stream:
        text = "".join(e.delta for e in stream if e.type == "response.output_text.delta")
        answer = stream.get_final_response()
    assert (ANSWER, ANSWER) == (text, answer.output_text)
    record.answered(answer.usage.input_tokens, answer.usage.output_tokens)
    record.tried("responses")


def list_models():
    """The list of models and one of them, with DeepInfra's metadata."""
    assert MODEL in [model.id for model in client.models.list()]
    assert 0 < client.models.retrieve(MODEL).metadata["pricing"]["input_tokens"]
    record.tried("models")


def be_refused():
    """Errors become the client's own, by status."""
    wrong = client.with_options(api_key="sh_wrong").chat.completions
    error_of(openai.AuthenticationError, lambda: wrong.create(model=MODEL, messages=MESSAGES))
    record.tried("wrong key")
    unknown = {"model": "nobody/nothing", "messages": MESSAGES, "stream": True}
    error = error_of(openai.NotFoundError, lambda: client.chat.completions.create(**unknown))
    assert "nobody/nothing" in error.body["message"]
    record.tried("unknown model")


ask_whole()
ask_stream()
assemble_stream()
asyncio.run(ask_async())
ask_for_several()
ask_for_log_probabilities()
ask_for_json()
complete_raw()
respond()
list_models()
call_tools()
be_refused()
record.print()
