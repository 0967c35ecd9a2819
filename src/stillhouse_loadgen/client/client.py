"""Asks an OpenAI-compatible server over HTTP, and writes down how it answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

import aiohttp
import msgspec

from stillhouse.clock import Clock
from stillhouse.errors import ConfigError
from stillhouse_loadgen.client.answer import Answer, refusal_message
from stillhouse_loadgen.client.load_key import LoadKey
from stillhouse_loadgen.record import Failure, RequestRecord

Message = dict[str, str]

# Servers close connections that rest, uvicorn after 5 s; one that was used as it was being closed
# would count as the server's failure.
_KEEP_ALIVE_S = 3.0
_READ_BUFFER_BYTES = 1 << 16
_MAX_REFUSAL_BYTES = 1 << 16


class Stopwatch:
    """Seconds since a run began."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._start_s = clock.monotonic_s()

    def now_s(self) -> float:
        """Seconds from the start."""
        return self._clock.monotonic_s() - self._start_s


class Asker(Protocol):
    """Whatever answers: the server, or what a test has in its place."""

    async def ask(
        self, record: RequestRecord, messages: list[Message], key: LoadKey, watch: Stopwatch
    ) -> str:
        """Ask, write into *record* what happens, and return the answer's content."""
        ...


@dataclass(frozen=True, slots=True)
class Target:
    """
    What is asked.

    Args:
        url: As OpenAI's clients take it, such as ``http://127.0.0.1:8000/v1``; without a path,
            ``/v1`` is meant.
        extra: Further fields of every body.
        timeout_s: From sending a request until it counts as failed.

    Raises:
        ConfigError: *url* is not one of HTTP.

    """

    url: str
    model: str
    extra: Mapping[str, Any]
    timeout_s: float

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query:
            raise ConfigError(f"'{self.url}' is no URL of a server; write http://127.0.0.1:8000/v1")
        if parts.username or parts.password:
            raise ConfigError("the URL has a password in it; give the API key with --key")

    @property
    def chat_url(self) -> str:
        """Where chat completions are."""
        base = self.url.rstrip("/")
        return f"{base if urlsplit(base).path else base + '/v1'}/chat/completions"


class HttpClient:
    """
    Asks chat completions as streams.

    Args:
        session: As `open_client` makes it.

    """

    def __init__(self, session: aiohttp.ClientSession, target: Target) -> None:
        self._session = session
        self._target = target

    async def ask(
        self, record: RequestRecord, messages: list[Message], key: LoadKey, watch: Stopwatch
    ) -> str:
        """Ask, write into *record* what happens, and return the answer's content."""
        answer = Answer(record)
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
        self, record: RequestRecord, answer: Answer, body: bytes, key: LoadKey, watch: Stopwatch
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
                record.message = refusal_message(await _beginning_of(response))
                return
            async for received in response.content.iter_any():
                answer.take(received, watch.now_s())
            answer.end(watch.now_s())


@asynccontextmanager
async def open_client(target: Target) -> AsyncIterator[HttpClient]:
    """A client with as many connections as requests in flight."""
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_S)
    async with aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
        read_bufsize=_READ_BUFFER_BYTES,
        auto_decompress=False,
    ) as session:
        yield HttpClient(session, target)


async def _beginning_of(response: aiohttp.ClientResponse) -> bytes:
    body = b""
    async for received in response.content.iter_any():
        body += received
        if len(body) >= _MAX_REFUSAL_BYTES:
            break
    return body


def _fail(record: RequestRecord, failure: Failure, message: str) -> None:
    if record.failure is None:
        record.failure, record.message = failure.value, message
