"""A server on a real socket that answers, word for word, what a test has written."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


@dataclass
class Asked:
    """A request as it came over the socket."""

    headers: dict[str, str]
    body: dict[str, Any]


@dataclass
class ScriptedServer:
    """Gives each request the next answer, the last one again and again, and hangs up after it."""

    answers: list[bytes]
    url: str = ""
    asked: list[Asked] = field(default_factory=list)

    async def serve(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[1:]
        headers = {name.lower(): value for name, _, value in (h.partition(": ") for h in head)}
        body = await reader.readexactly(int(headers["content-length"]))
        answer = self.answers[min(len(self.asked), len(self.answers) - 1)]
        self.asked.append(Asked(headers, json.loads(body)))
        writer.write(answer)
        await writer.drain()
        writer.close()
        await writer.wait_closed()


@asynccontextmanager
async def scripted_server(*answers: bytes) -> AsyncIterator[ScriptedServer]:
    """Serve *answers* on a free port."""
    scripted = ScriptedServer(list(answers))
    server = await asyncio.start_server(scripted.serve, "127.0.0.1", 0)
    async with server:
        scripted.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        yield scripted


def delta(content, **choice):
    """A chunk with text."""
    return {"choices": [{"index": 0, "delta": {"content": content}} | choice]}


def ending(*, prompt_tokens=7, completion_tokens=3, finish_reason="stop", **usage):
    """The chunks that end an answer: one with finish_reason, one with usage, as vLLM has them."""
    counts = {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}
    return [
        {"choices": [{"index": 0, "delta": {}, "finish_reason": finish_reason}]},
        {"choices": [], "usage": counts | usage},
    ]


def events(*chunks, done=True):
    """Chunks as server-sent events."""
    lines = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks]
    return "".join(lines + ["data: [DONE]\n\n"] * done).encode()


def stream(body, *, is_whole=True):
    """A 200 with *body*; without its last chunk it looks like a server that died."""
    return HEAD + b"%x\r\n%s\r\n" % (len(body), body) + b"0\r\n\r\n" * is_whole


def answer(*texts, **usage):
    """A whole answer."""
    return stream(events(*map(delta, texts), *ending(**usage)))


def refusal(status, message, **headers):
    """An error in OpenAI's envelope."""
    body = json.dumps({"error": {"message": message}}).encode()
    lines = [f"HTTP/1.1 {status} No", "Content-Type: application/json"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body
