"""``POST /v1/openai/chat/completions``: bytes to a completion, and its events back to bytes."""

from __future__ import annotations

import asyncio
import secrets
import string
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import msgspec
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from stillhouse.api import sse
from stillhouse.api.openai_schema import (
    ChatCompletionIn,
    StreamOptions,
    completion_out,
    parse_chat_completion,
)
from stillhouse.api.request_body import read_body
from stillhouse.billing.outcome import Outcome
from stillhouse.chat import Finish, TextDelta
from stillhouse.clock import Clock
from stillhouse.errors import StillhouseError
from stillhouse.failpoint import failpoint
from stillhouse.serving.completions import Completion, Completions

_ID_ALPHABET = string.ascii_letters + string.digits


@dataclass(frozen=True, slots=True)
class ChatCompletions:
    """The endpoint, as an ASGI application: it must see the client leave, so it owns `receive`."""

    completions: Completions
    clock: Clock
    max_body_bytes: int

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        body = await read_body(Request(scope, receive), max_bytes=self.max_body_bytes)
        asked = parse_chat_completion(body)
        completion = await self.completions.open(
            _new_completion_id(), scope["principal"], asked.to_request()
        )
        async with _stopped_when_client_leaves(receive, completion):
            if asked.stream:
                await self._stream(asked, completion, send)
            else:
                await self._answer_whole(completion, send)

    async def _answer_whole(self, completion: Completion, send: Send) -> None:
        content: list[str] = []
        reasoning: list[str] = []
        async for event in completion.events():
            if isinstance(event, Finish):
                answer = completion_out(
                    completion_id=completion.request_id,
                    created=self.clock.now_ms() // 1000,
                    model=completion.model.chat.spec.id,
                    content="".join(content),
                    reasoning="".join(reasoning),
                    finish=event,
                )
                await _send_start(send, 200, b"application/json")
                await _send_body(send, msgspec.json.encode(answer), more=False)
            else:
                content.append(event.content)
                reasoning.append(event.reasoning)

    async def _stream(self, asked: ChatCompletionIn, completion: Completion, send: Send) -> None:
        encoder = sse.ChunkEncoder(
            completion_id=completion.request_id,
            created=self.clock.now_ms() // 1000,
            model=completion.model.chat.spec.id,
        )
        # Pulled before the first byte, so that an engine's refusal still has its HTTP status.
        events = completion.events()
        first = await anext(events)
        await _send_start(send, 200, b"text/event-stream; charset=utf-8")
        options = asked.stream_options or StreamOptions()
        await _send_chunk(send, encoder.opening() + _encode(encoder, first, completion, options))
        try:
            async for event in events:
                await _send_chunk(send, _encode(encoder, event, completion, options))
        except StillhouseError as error:
            await _send_body(send, sse.error_event(error), more=False)
        else:
            await _send_body(send, sse.DONE, more=False)


def _encode(
    encoder: sse.ChunkEncoder,
    event: TextDelta | Finish,
    completion: Completion,
    options: StreamOptions,
) -> bytes:
    if isinstance(event, TextDelta):
        if not options.continuous_usage_stats:
            return encoder.delta(event)
        return encoder.delta(
            event, usage=completion.usage, cost_picousd=completion.cost_so_far_picousd
        )
    chunk = encoder.finish(event, has_usage=options.include_usage is None)
    return chunk + encoder.usage(event) if options.include_usage else chunk


@asynccontextmanager
async def _stopped_when_client_leaves(
    receive: Receive, completion: Completion
) -> AsyncIterator[None]:
    # A server goes on accepting what is sent to a client that has left; only receive() tells.
    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        completion.stop(Outcome.CLIENT_DISCONNECT)

    watcher = asyncio.create_task(watch())
    try:
        yield
    except asyncio.CancelledError:
        completion.stop(Outcome.DRAINED)
        raise
    finally:
        watcher.cancel()
        completion.stop(Outcome.CLIENT_DISCONNECT)


async def _send_start(send: Send, status: int, content_type: bytes) -> None:
    headers = [(b"content-type", content_type), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def _send_chunk(send: Send, chunk: bytes) -> None:
    failpoint("before-chunk")
    await _send_body(send, chunk)
    failpoint("after-chunk")


async def _send_body(send: Send, body: bytes, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})


def _new_completion_id() -> str:
    return "chatcmpl-" + "".join(secrets.choice(_ID_ALPHABET) for _ in range(24))
