"""Sends chat completions to an OpenAI-compatible server, and records how it answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

import aiohttp
import msgspec

from stillhouse_loadgen.client.load_key import LoadKey
from stillhouse_loadgen.client.response_stream import ResponseStream, refusal_message
from stillhouse_loadgen.clock import Clock
from stillhouse_loadgen.errors import ArgumentError
from stillhouse_loadgen.record import Failure, RequestRecord

Message = dict[str, str]

# Servers close idle connections, uvicorn after 5 s; a request on a connection that is being closed
# would count as the server's failure.
_KEEP_ALIVE_S = 3.0
_READ_BUFFER_BYTES = 1 << 16
_MAX_REFUSAL_BYTES = 1 << 16


class Stopwatch:
    """Measures seconds from the start of a run."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._start_s = clock.monotonic_s()

    def now_s(self) -> float:
        """Returns the seconds since the start."""
        return self._clock.monotonic_s() - self._start_s


class ChatClient(Protocol):
    """Sends a chat completion; tests implement it without a server."""

    async def complete(
        self, record: RequestRecord, messages: list[Message], key: LoadKey, watch: Stopwatch
    ) -> str:
        """Sends the messages, write the outcome into *record*, and returns the answer's content."""
        ...


@dataclass(frozen=True, slots=True)
class Target:
    """
    The server and model under test.

    Args:
        url: As OpenAI's clients take it, such as ``http://127.0.0.1:8000/v1``; without a path,
            ``/v1`` is appended.
        extra: Further fields of every body.
        timeout_s: From sending a request until it counts as failed.

    Raises:
        ArgumentError: *url* is not an HTTP URL.

    """

    url: str
    model: str
    extra: Mapping[str, Any]
    timeout_s: float

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query:
            raise ArgumentError(
                f"'{self.url}' is not the URL of a server; write http://127.0.0.1:8000/v1"
            )
        if parts.username or parts.password:
            raise ArgumentError("the URL has a password in it; give the API key with --key")

    @property
    def chat_url(self) -> str:
        """The URL of chat completions."""
        base = self.url.rstrip("/")
        return f"{base if urlsplit(base).path else base + '/v1'}/chat/completions"


class HttpChatClient:
    """
    Streams chat completions over HTTP.

    Args:
        session: As `open_client` opens it.

    """

    def __init__(self, session: aiohttp.ClientSession, target: Target) -> None:
        self._session = session
        self._target = target

    async def complete(
        self, record: RequestRecord, messages: list[Message], key: LoadKey, watch: Stopwatch
    ) -> str:
        """Sends the messages, write the outcome into *record*, and returns the answer's content."""
        answer = ResponseStream(record)
        body = self._body(messages, record.max_tokens)
        record.sent_s = watch.now_s()
        try:
            async with asyncio.timeout(self._target.timeout_s):
                await self._exchange(record, answer, body, key, watch)
        except TimeoutError:
            _fail(record, Failure.TIMEOUT, f"no end after {self._target.timeout_s:g} s")
        except aiohttp.ClientConnectorError as error:
            _fail(record, Failure.CONNECT, str(error))
        except (aiohttp.ClientError, OSError) as error:
            _fail(record, Failure.DISCONNECTED, str(error) or type(error).__name__)
        finally:
            record.end_s = watch.now_s() if record.end_s is None else record.end_s
        return answer.text

    def _body(self, messages: list[Message], max_tokens: int) -> bytes:
        return msgspec.json.encode(
            {
                "model": self._target.model,
                "messages": messages,
                "max_tokens": max_tokens,
                "stream": True,
                "stream_options": {"include_usage": True},
                **self._target.extra,
            }
        )

    async def _exchange(
        self,
        record: RequestRecord,
        answer: ResponseStream,
        body: bytes,
        key: LoadKey,
        watch: Stopwatch,
    ) -> None:
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        if key.secret:
            headers["Authorization"] = f"Bearer {key.secret}"
        async with self._session.post(
            self._target.chat_url, data=body, headers=headers, allow_redirects=False
        ) as response:
            record.status = response.status
            record.retry_after = response.headers.get("Retry-After")
            if response.status != 200:
                record.failure = f"http_{response.status}"
                record.message = refusal_message(await _read_start(response))
                return
            async for received in response.content.iter_any():
                answer.feed(received, watch.now_s())
            answer.end(watch.now_s())


@asynccontextmanager
async def open_client(target: Target) -> AsyncIterator[HttpChatClient]:
    """Opens a client with as many connections as requests in flight."""
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_S)
    async with aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
        read_bufsize=_READ_BUFFER_BYTES,
        auto_decompress=False,
    ) as session:
        yield HttpChatClient(session, target)


async def _read_start(response: aiohttp.ClientResponse) -> bytes:
    body = b""
    async for received in response.content.iter_any():
        body += received
        if len(body) >= _MAX_REFUSAL_BYTES:
            break
    return body


def _fail(record: RequestRecord, failure: Failure, message: str) -> None:
    if record.failure is None:
        record.failure, record.message = failure.value, message
