"""Parses the body of a request, opens its completion, and writes the response."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Self

from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from stillhouse.accounts.accounts import Principal
from stillhouse.api.bodies.body_reader import BodyReader
from stillhouse.api.bodies.request_head import RequestHead
from stillhouse.api.completions.parsed_request import ParsedRequest, ResponseWriter, parse_request
from stillhouse.api.http import idempotency_header
from stillhouse.api.http.sse import EventStream, Header
from stillhouse.api.server.exchange import STALLED
from stillhouse.billing.outcome import Outcome
from stillhouse.errors import StillhouseError
from stillhouse.failpoint import failpoint
from stillhouse.serving.completions import Completions
from stillhouse.serving.response import CompletionResponse
from stillhouse.serving.response_accumulator import ResponseAccumulator
from stillhouse.types.events import Finish

#: Most bytes of one write; the connection buffers up to twice as much.
MAX_WRITE_BYTES = 32 << 10


@dataclass(frozen=True, slots=True)
class CompletionEndpoint:
    """
    Serves the completions of one dialect.

    It is an ASGI application, because it must call `receive` to see a disconnect.

    Args:
        id_prefix: Starts the request ids of the dialect, in responses and in the ledger.
        read: Parses a body in the dialect, with its head; raises InvalidRequestError. A function
            of a module: it is pickled for another process.
        keep_alive_s: Longest silence in a stream.

    """

    completions: Completions
    bodies: BodyReader
    id_prefix: str
    read: Callable[[bytes, RequestHead], ParsedRequest]
    keep_alive_s: float

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        request = Request(scope, receive)
        principal: Principal = scope["principal"]
        head = RequestHead.of(request, token=principal.token_id)
        read = partial(parse_request, self.read, head)
        async with self.bodies.read(request, principal, read) as (parsed, idempotency_key):
            completion = await self.completions.open(
                f"{self.id_prefix}{scope['request_id']}", principal, parsed.request, idempotency_key
            )
        writer = parsed.writer
        # The parsed request may have megabytes, and the response takes long.
        del parsed, idempotency_key
        with DisconnectWatcher(scope, receive, completion):
            try:
                if writer.is_stream:
                    await _stream(writer, completion, send, self.keep_alive_s)
                else:
                    await _answer_whole(writer, completion, send, self.completions, principal)
            except StillhouseError:
                scope["charged"] = completion.charged  # the error's body says so
                raise


async def _answer_whole(
    writer: ResponseWriter,
    completion: CompletionResponse,
    send: Send,
    completions: Completions,
    principal: Principal,
) -> None:
    transcript = ResponseAccumulator(completion.meta.n)
    async for event in completion.events():
        transcript.add(event)
        if isinstance(event, Finish):
            choices = transcript.close()
            write = partial(writer.whole_body, completion.meta, choices, event)
            # A response with log probabilities takes long to encode: in a thread.
            is_long = any(choice.logprobs for choice in choices)
            body = await completions.run_in_thread(principal, write) if is_long else write()
            headers = [
                (b"content-type", b"application/json"),
                (b"cache-control", b"no-store"),
                (b"content-length", b"%d" % len(body)),
                *_headers(completion),
            ]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": body})


async def _stream(
    writer: ResponseWriter, completion: CompletionResponse, send: Send, keep_alive_s: float
) -> None:
    encoder = writer.event_encoder(completion.meta)
    stream = EventStream(send, _headers(completion), keep_alive=encoder.keep_alive)
    try:
        with stream.kept_alive(keep_alive_s):
            chunks = Chunks(stream, first=encoder.opening())
            async for events in completion.batches():
                for event in events:
                    if chunk := encoder.event(event, completion):
                        await chunks.add(chunk)
                await chunks.flush()
    except StillhouseError as error:
        if not stream.has_begun:  # an error before the first event still sets the HTTP status
            raise
        await stream.write(encoder.error(error, completion.charged), is_last=True)
    else:
        await stream.write(encoder.closing(), is_last=True)


class Chunks:
    """
    Joins ready chunks into one write, because a write costs more than encoding a chunk.

    Args:
        first: Bytes in front of the first chunk.

    """

    def __init__(self, stream: EventStream, *, first: bytes) -> None:
        self._stream = stream
        self._first = first
        self._ready: list[bytes] = []
        self._num_bytes = 0

    async def add(self, chunk: bytes) -> None:
        """Adds a chunk to the next write, and writes if there is enough."""
        failpoint("before-chunk")
        self._ready.append(self._first + chunk)
        self._first = b""
        self._num_bytes += len(chunk)
        if self._num_bytes >= MAX_WRITE_BYTES:
            await self.flush()

    async def flush(self) -> None:
        """Writes all chunks that have been added."""
        if not self._ready:
            return
        ready, self._ready, self._num_bytes = self._ready, [], 0
        await self._stream.write(ready[0] if len(ready) == 1 else b"".join(ready))
        for _ in ready:
            failpoint("after-chunk")


class DisconnectWatcher:
    """
    Watches for the client to disconnect, and stops the completion then.

    `send` succeeds after a disconnect; only `receive` reports it.
    """

    def __init__(self, scope: Scope, receive: Receive, completion: CompletionResponse) -> None:
        self._scope = scope
        self._receive = receive
        self._completion = completion
        self._watcher = asyncio.create_task(self._watch())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: object, _traceback: object
    ) -> None:
        self._watcher.cancel()
        is_cancelled = kind is not None and issubclass(kind, asyncio.CancelledError)
        # After a normal end this has no effect.
        self._completion.stop(Outcome.DRAINED if is_cancelled else Outcome.CLIENT_DISCONNECT)

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        is_stalled = STALLED in self._scope
        self._completion.stop(Outcome.SLOW_CLIENT if is_stalled else Outcome.CLIENT_DISCONNECT)


def _headers(completion: CompletionResponse) -> list[Header]:
    return [idempotency_header.REPLAYED] if completion.is_replay else []
