"""LiteLLM's provider for DeepInfra: `litellm`."""

# mypy: ignore-errors
# (what it imports is in another environment, where no checker runs)

from __future__ import annotations

import asyncio
import json
import math
import os
from functools import partial

from record import (
    ANSWER,
    GET_WEATHER,
    KEY,
    MESSAGES,
    MODEL,
    PARIS,
    TOOLS_MODEL,
    URL,
    VERDICT,
    WEATHER,
    Record,
    error_of,
)

os.environ["DEEPINFRA_API_KEY"] = KEY
os.environ["DEEPINFRA_API_BASE"] = f"{URL}/v1/openai"

import litellm

record = Record("litellm", "DEEPINFRA_API_BASE=http://HOST/v1/openai")
model = f"deepinfra/{MODEL}"


def ask_whole():
    """An answer whole, with its reasoning."""
    answer = litellm.completion(model=model, messages=MESSAGES, temperature=0)
    assert ANSWER == answer.choices[0].message.content
    record.answered_with(answer.usage)
    record.tried("whole")
    assert "42" in answer.choices[0].message.reasoning_content
    record.tried("reasoning")


def ask_stream():
    """An answer in pieces, put together again by litellm."""
    chunks = list(
        litellm.completion(
            model=model,
            messages=MESSAGES,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    answer = litellm.stream_chunk_builder(chunks, messages=MESSAGES)
    assert ANSWER == answer.choices[0].message.content
    record.answered(answer.usage.prompt_tokens, answer.usage.completion_tokens)
    record.tried("stream")


async def ask_async():
    """The same asynchronously."""
    answer = await litellm.acompletion(model=model, messages=MESSAGES, temperature=0)
    assert ANSWER == answer.choices[0].message.content
    record.answered_with(answer.usage)
    record.tried("async")


def ask_for_json():
    """An answer that must fit a schema."""
    format_ = {"type": "json_schema", "json_schema": {"name": "verdict", "schema": VERDICT}}
    answer = litellm.completion(
        model=model, messages=MESSAGES, temperature=0, response_format=format_
    )
    assert json.loads(answer.choices[0].message.content)["is_even"] in ("yes", "no")
    record.answered_with(answer.usage)
    record.tried("JSON schema")


def call_tools():
    """A tool is called, and its result answered to; litellm makes one text of its parts."""
    asked = {"model": f"deepinfra/{TOOLS_MODEL}", "tools": [GET_WEATHER], "temperature": 0}
    called = litellm.completion(**asked, messages=WEATHER)
    record.answered_with(called.usage)
    (call,) = called.choices[0].message.tool_calls
    assert ("get_weather", {"city": "Paris"}) == (
        call.function.name,
        json.loads(call.function.arguments),
    )
    parts = [{"type": "text", "text": PARIS}]
    result = {"role": "tool", "tool_call_id": call.id, "content": parts}
    answer = litellm.completion(**asked, messages=[*WEATHER, called.choices[0].message, result])
    assert "18" in answer.choices[0].message.content
    record.answered_with(answer.usage)
    record.tried("tools")


def price():
    """What litellm says that DeepInfra takes for the model is what was charged here."""
    name = "deepseek-ai/DeepSeek-R1-Distill-Llama-70B"
    answer = litellm.completion(model=f"deepinfra/{name}", messages=MESSAGES, temperature=0)
    price_usd = litellm.completion_cost(answer, model=f"deepinfra/{name}")
    assert math.isclose(price_usd, answer.usage.estimated_cost)
    record.answered_with(answer.usage)
    record.tried("cost as in the client's own price list")


def be_refused():
    """Errors become litellm's own; it goes by their words before it goes by their status."""
    ask = partial(litellm.completion, messages=MESSAGES)
    error_of(litellm.AuthenticationError, lambda: ask(model=model, api_key="sh_wrong"))
    record.tried("wrong key")
    unknown = {"model": "deepinfra/nobody/nothing", "stream": True}
    error = error_of(litellm.NotFoundError, lambda: ask(**unknown))
    assert "nobody/nothing" in str(error)
    record.tried("unknown model")


ask_whole()
ask_stream()
asyncio.run(ask_async())
ask_for_json()
price()
call_tools()
be_refused()
record.print()
