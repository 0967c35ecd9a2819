"""Every door to a completion: bytes to a request, and its events back to bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from stillhouse.accounts.accounts import Principal
from stillhouse.api import idempotency_header
from stillhouse.api.event_stream import EventStream, Header
from stillhouse.api.request_body import read_body
from stillhouse.billing.outcome import Outcome
from stillhouse.chat import ChatEvent, ChatRequest, ChoiceAnswer, Finish, TextRequest
from stillhouse.errors import StillhouseError
from stillhouse.failpoint import failpoint
from stillhouse.serving.completion import Completion
from stillhouse.serving.completions import Completions
from stillhouse.serving.replay import AnswerHead, Replay
from stillhouse.serving.transcript import Transcript


class EventEncoder(Protocol):
    """
    Encodes the events of one stream.

    Attributes:
        keep_alive: What is sent in a silence; clients skip it.

    """

    keep_alive: bytes

    def event(self, event: ChatEvent, completion: Completion | Replay) -> bytes:
        """Bytes of whole events; empty where the dialect says nothing of *event*."""
        ...

    def opening(self) -> bytes:
        """What stands before the first event."""
        ...

    def closing(self) -> bytes:
        """What stands after `Finish`."""
        ...

    def error(self, error: StillhouseError) -> bytes:
        """An error after the first byte; nothing follows it."""
        ...


class AnswerForm(Protocol):
    """How one request wants to be answered."""

    @property
    def is_stream(self) -> bool:
        """Whether it is answered piece by piece."""
        ...

    def whole(self, head: AnswerHead, choices: tuple[ChoiceAnswer, ...], finish: Finish) -> bytes:
        """The whole answer as JSON."""
        ...

    def stream(self, head: AnswerHead) -> EventEncoder:
        """What encodes the answer piece by piece."""
        ...


@dataclass(frozen=True, slots=True)
class Asked:
    """A body that has been read: what it asks for, and how it wants to be answered."""

    request: ChatRequest | TextRequest
    form: AnswerForm


@dataclass(frozen=True, slots=True)
class CompletionEndpoint:
    """
    A door, as an ASGI application: it must see the client leave, so it owns `receive`.

    Args:
        id_prefix: Of the ids that clients see, and that the ledger knows requests by.
        read: A body in the door's dialect, with its path and headers; raises InvalidRequestError.
        keep_alive_s: Longest silence in a stream.

    """

    completions: Completions
    max_body_bytes: int
    id_prefix: str
    read: Callable[[bytes, Request], Asked]
    keep_alive_s: float

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        body = await read_body(request, max_bytes=self.max_body_bytes)
        asked = self.read(body, request)
        principal: Principal = scope["principal"]
        claim = idempotency_header.read_claim(
            request.headers, path=_target(scope), body=body, scope_id=principal.scope_id
        )
        completion = await self.completions.open(
            f"{self.id_prefix}{scope['request_id']}", principal, asked.request, claim
        )
        async with _stopped_when_client_leaves(receive, completion):
            if asked.form.is_stream:
                await _stream(asked.form, completion, send, self.keep_alive_s)
            else:
                await _answer_whole(asked.form, completion, send)


def _target(scope: Scope) -> str:
    """The path with its query, which may name a model's version."""
    query: str = scope["query_string"].decode("latin-1")
    return f"{scope['path']}?{query}" if query else scope["path"]


async def _answer_whole(form: AnswerForm, completion: Completion | Replay, send: Send) -> None:
    transcript = Transcript(completion.head.n)
    async for event in completion.events():
        transcript.add(event)
        if isinstance(event, Finish):
            body = await _whole(form, completion.head, transcript.close(), event)
            headers = [
                (b"content-type", b"application/json"),
                (b"cache-control", b"no-store"),
                (b"content-length", b"%d" % len(body)),
                *_headers(completion),
            ]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": body})


async def _whole(
    form: AnswerForm, head: AnswerHead, choices: tuple[ChoiceAnswer, ...], finish: Finish
) -> bytes:
    """What takes longer than others should wait is written in a thread."""
    if any(choice.logprobs for choice in choices):
        return await asyncio.to_thread(form.whole, head, choices, finish)
    return form.whole(head, choices, finish)


async def _stream(
    form: AnswerForm, completion: Completion | Replay, send: Send, keep_alive_s: float
) -> None:
    encoder = form.stream(completion.head)
    stream = EventStream(send, _headers(completion), keep_alive=encoder.keep_alive)
    opening = encoder.opening()
    try:
        async with stream.kept_alive(keep_alive_s):
            async for event in completion.events():
                if chunk := opening + encoder.event(event, completion):
                    opening = b""
                    failpoint("before-chunk")
                    await stream.write(chunk)
                    failpoint("after-chunk")
    except StillhouseError as error:
        if not stream.has_begun:  # an engine's refusal still gets its HTTP status
            raise
        await stream.write(encoder.error(error), is_last=True)
    else:
        await stream.write(encoder.closing(), is_last=True)


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


def _headers(completion: Completion | Replay) -> list[Header]:
    return [idempotency_header.REPLAYED] if completion.is_replay else []
