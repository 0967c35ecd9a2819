"""Serves a fixed answer as an OpenAI-compatible upstream: ``null_upstream.py PORT``."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from typing import Any, cast

import uvloop

LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
MAX_TOKENS = re.compile(rb'"max_tokens": *(\d+)')
USAGE = {"prompt_tokens": 10, "completion_tokens": 1, "total_tokens": 11}
HEAD: dict[str, Any] = {"id": "chatcmpl-0", "created": 1, "model": "null"}


class NullUpstream(asyncio.Protocol):
    """Answers every request with a word, or with as many chunks as its max_tokens."""

    def __init__(self) -> None:
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start with an empty buffer."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is another class

    def data_received(self, data: bytes) -> None:
        """Answer each complete request."""
        self._received += data
        head, separator, rest = self._received.partition(b"\r\n\r\n")
        length = LENGTH.search(head)
        num_bytes = int(length[1]) if length else 0
        if not separator or len(rest) < num_bytes:
            return
        body, self._received = rest[:num_bytes], rest[num_bytes:]
        if b'"stream":true' in body.replace(b" ", b""):
            self._stream(body)
        else:
            self._transport.write(WHOLE)

    def _stream(self, body: bytes) -> None:
        found = MAX_TOKENS.search(body)
        num_tokens = int(found[1]) if found else 1
        self._transport.write(STREAM_HEAD)
        for _ in range(num_tokens):
            self._transport.write(TOKEN)
        self._transport.write(STREAM_END)


def whole() -> bytes:
    """Return the answer that is not streamed."""
    message = {"role": "assistant", "content": "word"}
    choice = {"index": 0, "message": message, "finish_reason": "length"}
    answer = {**HEAD, "object": "chat.completion", "choices": [choice], "usage": USAGE}
    body = json.dumps(answer).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return f"{head}\r\n\r\n".encode() + body


def chunk(delta: dict[str, str], finish_reason: str | None = None) -> bytes:
    """Return one event as an HTTP chunk."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    event = json.dumps({**HEAD, "object": "chat.completion.chunk", "choices": [choice]})
    return sized(f"data: {event}\n\n")


def sized(text: str) -> bytes:
    """Return *text* in HTTP's chunked encoding."""
    return f"{len(text):x}\r\n{text}\r\n".encode()


WHOLE = whole()
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
)
TOKEN = chunk({"role": "assistant", "content": "word"})
STREAM_END = chunk({}, "length") + sized("data: [DONE]\n\n") + b"0\r\n\r\n"


async def main(port: int) -> None:
    """Serve until the process is ended."""
    server = await asyncio.get_running_loop().create_server(NullUpstream, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
