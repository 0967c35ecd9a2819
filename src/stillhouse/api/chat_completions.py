"""``POST /v1/openai/chat/completions``: bytes to a completion, and its events back to bytes."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import msgspec
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from stillhouse.accounts.accounts import Principal
from stillhouse.api import idempotency_header, sse
from stillhouse.api.openai_schema import (
    ChatCompletionIn,
    StreamOptions,
    completion_out,
    parse_chat_completion,
)
from stillhouse.api.request_body import read_body
from stillhouse.billing.outcome import Outcome
from stillhouse.chat import Finish, TextDelta
from stillhouse.errors import StillhouseError
from stillhouse.failpoint import failpoint
from stillhouse.serving.completion import Completion
from stillhouse.serving.completions import Completions
from stillhouse.serving.replay import Replay


@dataclass(frozen=True, slots=True)
class ChatCompletions:
    """The endpoint, as an ASGI application: it must see the client leave, so it owns `receive`."""

    completions: Completions
    max_body_bytes: int

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        body = await read_body(request, max_bytes=self.max_body_bytes)
        asked = parse_chat_completion(body)
        principal: Principal = scope["principal"]
        claim = idempotency_header.read_claim(
            request.headers, path=scope["path"], body=body, scope_id=principal.scope_id
        )
        completion = await self.completions.open(
            _new_completion_id(), principal, asked.to_request(), claim
        )
        async with _stopped_when_client_leaves(receive, completion):
            if asked.stream:
                await _stream(asked, completion, send)
            else:
                await _answer_whole(asked, completion, send)


async def _answer_whole(
    asked: ChatCompletionIn, completion: Completion | Replay, send: Send
) -> None:
    content: list[str] = []
    reasoning: list[str] = []
    async for event in completion.events():
        if isinstance(event, Finish):
            answer = completion_out(
                completion_id=completion.head.request_id,
                created=completion.head.created_s,
                model=completion.head.model_id,
                content="".join(content),
                reasoning="".join(reasoning),
                finish=event,
                service_tier=_tier_to_echo(asked, completion),
            )
            body = msgspec.json.encode(answer)
            length = (b"content-length", b"%d" % len(body))
            await _send_start(send, b"application/json", completion, length)
            await _send_body(send, body, more=False)
        else:
            content.append(event.content)
            reasoning.append(event.reasoning)


async def _stream(asked: ChatCompletionIn, completion: Completion | Replay, send: Send) -> None:
    encoder = sse.ChunkEncoder(
        completion_id=completion.head.request_id,
        created=completion.head.created_s,
        model=completion.head.model_id,
        service_tier=_tier_to_echo(asked, completion),
    )
    # Pulled before the first byte, so that an engine's refusal still has its HTTP status.
    events = completion.events()
    first = await anext(events)
    await _send_start(send, b"text/event-stream; charset=utf-8", completion)
    options = asked.stream_options or StreamOptions()
    await _send_chunk(send, encoder.opening() + _encode(encoder, first, completion, options))
    try:
        async for event in events:
            await _send_chunk(send, _encode(encoder, event, completion, options))
    except StillhouseError as error:
        await _send_body(send, sse.error_event(error), more=False)
    else:
        await _send_body(send, sse.DONE, more=False)


def _tier_to_echo(asked: ChatCompletionIn, completion: Completion | Replay) -> str | None:
    """The tier that is charged, for those who asked for one; others look for no such field."""
    return None if asked.service_tier is None else completion.head.tier.value


def _encode(
    encoder: sse.ChunkEncoder,
    event: TextDelta | Finish,
    completion: Completion | Replay,
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
    receive: Receive, completion: Completion | Replay
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


async def _send_start(
    send: Send, content_type: bytes, completion: Completion | Replay, *more: tuple[bytes, bytes]
) -> None:
    headers = [(b"content-type", content_type), (b"cache-control", b"no-store"), *more]
    if completion.is_replay:
        headers.append(idempotency_header.REPLAYED)
    await send({"type": "http.response.start", "status": 200, "headers": headers})


async def _send_chunk(send: Send, chunk: bytes) -> None:
    failpoint("before-chunk")
    await _send_body(send, chunk)
    failpoint("after-chunk")


async def _send_body(send: Send, body: bytes, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})


def _new_completion_id() -> str:
    return f"chatcmpl-{secrets.token_hex(16)}"
