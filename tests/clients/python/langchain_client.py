"""LangChain's class for OpenAI: `langchain-openai`."""

# mypy: ignore-errors
# (what it imports is in another environment, where no checker runs)

from __future__ import annotations

import asyncio

import openai
from langchain_openai import ChatOpenAI
from record import ANSWER, KEY, MODEL, SUM, URL, Record, error_of

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
    record.answered(usage["input_tokens"], usage["output_tokens"])
    record.tried("stream")


async def invoke_async():
    """Two at once, asynchronously."""
    answers = await llm.abatch([SUM, SUM])
    for answer in answers:
        assert ANSWER == answer.content
        usage = answer.usage_metadata
        record.answered(usage["input_tokens"], usage["output_tokens"])
    record.tried("async")


def be_refused():
    """Errors are those of the OpenAI client beneath."""
    error_of(openai.AuthenticationError, lambda: point(key="sh_wrong").invoke(SUM))
    record.tried("wrong key")
    unknown = point(model="nobody/nothing")
    error_of(openai.NotFoundError, lambda: list(unknown.stream(SUM)))
    record.tried("unknown model")


invoke()
stream()
asyncio.run(invoke_async())
be_refused()
record.tell()
