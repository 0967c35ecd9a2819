"""The victim: a customer in a closed loop, and a probe of /livez."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

CHAT = "/v1/openai/chat/completions"
#: A request without an answer after this long counts as failed, and as having taken this long.
TIMEOUT_S = 10.0
LIVEZ_INTERVAL_S = 0.03


@dataclass
class VictimStats:
    """
    The victim's measurements.

    Args:
        refused: Statuses and other outcomes of requests without a complete answer.

    """

    first_token_s: list[float] = field(default_factory=list)
    gap_s: list[float] = field(default_factory=list)
    livez_s: list[float] = field(default_factory=list)
    num_answers: int = 0
    num_tokens: int = 0
    seconds: float = 0.0
    refused: dict[str, int] = field(default_factory=dict)

    def add(self, other: VictimStats) -> None:
        """Add the figures of another round."""
        self.first_token_s += other.first_token_s
        self.gap_s += other.gap_s
        self.livez_s += other.livez_s
        self.num_answers += other.num_answers
        self.num_tokens += other.num_tokens
        self.seconds += other.seconds
        for end, number in other.refused.items():
            self.refused[end] = self.refused.get(end, 0) + number


@dataclass(frozen=True)
class Victim:
    """
    A customer that streams one answer after the other on each of its connections.

    Args:
        fields: Further fields of every body.
        has_new_schema: Whether every request has a small schema of its own.

    """

    port: int
    key: str
    model: str
    concurrency: int
    fields: dict[str, Any]
    has_new_schema: bool = False
    _numbers: Iterator[int] = field(default_factory=count)

    async def ask_for(self, seconds: float) -> VictimStats:
        """Send requests for *seconds*, and wait for the last answers."""
        stats = VictimStats()
        start_s = time.perf_counter()
        end_s = start_s + seconds
        await asyncio.gather(
            self._probe(stats, end_s), *(self._loop(stats, end_s) for _ in range(self.concurrency))
        )
        stats.seconds = time.perf_counter() - start_s
        return stats

    async def _loop(self, stats: VictimStats, end_s: float) -> None:
        while (start_s := time.perf_counter()) < end_s:
            try:
                end = await asyncio.wait_for(self._stream(stats, start_s), TIMEOUT_S)
            except TimeoutError:
                end = "timeout"
            except (OSError, ValueError):
                end = "no answer"
            if end == "whole":
                stats.num_answers += 1
                continue
            stats.refused[end] = stats.refused.get(end, 0) + 1
            if end == "timeout":
                stats.first_token_s.append(TIMEOUT_S)
            await asyncio.sleep(0.1)

    async def _stream(self, stats: VictimStats, start_s: float) -> str:
        """Read one answer; return how it ended."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(self._request())
            status = int(
                (await reader.readline()).decode()[9:12]
            )  # ValueError if the connection was closed
            last_s, tail = 0.0, b""
            while chunk := await reader.read(1 << 16):
                now_s = time.perf_counter()
                if num_tokens := chunk.count(b'"content": "') + chunk.count(b'"content":"'):
                    if last_s:
                        stats.gap_s.append(now_s - last_s)
                    else:
                        stats.first_token_s.append(now_s - start_s)
                    stats.num_tokens += num_tokens
                    last_s = now_s
                tail = (tail + chunk)[-500:]
        finally:
            writer.close()
        return "whole" if b"[DONE]" in tail else f"cut ({status})" if status == 200 else str(status)

    def _request(self) -> bytes:
        fields: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": "user", "content": "Hello!"}],
            "stream": True,
            "temperature": 0,
            **self.fields,
        }
        if self.has_new_schema:
            name = f"p{next(self._numbers)}"
            schema = {"type": "object", "properties": {name: {"type": "string", "maxLength": 20}}}
            fields["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "x", "schema": schema},
            }
        body = json.dumps(fields).encode()
        head = (
            f"POST {CHAT} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
            f"Authorization: Bearer {self.key}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    async def _probe(self, stats: VictimStats, end_s: float) -> None:
        """Request /livez repeatedly, each time on a new connection."""
        while (start_s := time.perf_counter()) < end_s:
            try:
                await asyncio.wait_for(self._livez(), TIMEOUT_S)
                stats.livez_s.append(time.perf_counter() - start_s)
            except (OSError, TimeoutError, ValueError):
                stats.livez_s.append(TIMEOUT_S)
            await asyncio.sleep(LIVEZ_INTERVAL_S)

    async def _livez(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            if b" 200 " not in await reader.readline():
                raise ValueError("/livez is not well")
        finally:
            writer.close()
