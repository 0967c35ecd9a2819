"""The official OpenAI client: `openai`."""

# mypy: ignore-errors
# (what it imports is in another environment, where no checker runs)

from __future__ import annotations

import asyncio

import openai
from record import ANSWER, KEY, MESSAGES, MODEL, URL, Record, error_of

record = Record("openai", 'OpenAI(base_url="http://HOST/v1/openai")')
client = openai.OpenAI(base_url=f"{URL}/v1/openai", api_key=KEY, max_retries=0)


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
list_models()
be_refused()
record.tell()
