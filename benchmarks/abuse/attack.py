"""Runs one attack: its connections, its rate, and its counts."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

KIB, MIB = 1 << 10, 1 << 20
CHAT = "/v1/openai/chat/completions"
ADDRESSES = ("127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5")


@dataclass(frozen=True)
class AttackSpec:
    """
    The parameters of an attack.

    Args:
        keys: One API key for each of the attacker's accounts.
        account_id: The id of the first account.

    """

    attack: str
    port: int
    seconds: float
    model: str
    keys: list[str]
    account_id: int


@dataclass
class Attack:
    """An attack in progress."""

    spec: AttackSpec
    num_bytes: int = 0
    num_connections: int = 0
    num_tokens: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    last_fault: str = ""
    _addresses: Iterable[str] = field(default_factory=lambda: cycle(ADDRESSES))
    _end_s: float = 0.0

    def begin(self) -> None:
        """Start the time."""
        self._end_s = time.perf_counter() + self.spec.seconds

    @property
    def is_over(self) -> bool:
        """Whether the time is up."""
        return time.perf_counter() >= self._end_s

    def may_send(self, most_bytes: int) -> bool:
        """Whether time and bytes are left."""
        return not self.is_over and self.num_bytes < most_bytes

    def result(self) -> dict[str, Any]:
        """Return the counts."""
        return {
            "mib": self.num_bytes / MIB,
            "connections": self.num_connections,
            "tokens": self.num_tokens,
            "last_fault": self.last_fault,
            "statuses": {str(status): n for status, n in sorted(self.statuses.items())},
        }

    def new_socket(self, receive_bytes: int | None = None) -> socket.socket:
        """Return an unconnected socket on one of the attackers' addresses."""
        made = socket.socket()
        made.setblocking(False)
        if receive_bytes is not None:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        made.bind((next(iter(self._addresses)), 0))
        return made

    async def connect(self, receive_bytes: int | None = None) -> socket.socket:
        """Open a connection."""
        made = self.new_socket(receive_bytes)
        try:
            await asyncio.get_running_loop().sock_connect(made, ("127.0.0.1", self.spec.port))
        except OSError:
            made.close()
            raise
        self.num_connections += 1
        return made

    async def flood(
        self, head: bytes, piece: bytes, *, most_bytes: int, bytes_per_s: float
    ) -> None:
        """Send *head*, then *piece* repeatedly; reconnect when the server closes."""
        pace = Pace(bytes_per_s / len(piece))
        loop = asyncio.get_running_loop()
        while self.may_send(most_bytes):
            await pace.next()
            with suppress(OSError), await self.connect() as connection:
                await loop.sock_sendall(connection, head)
                while self.may_send(most_bytes):
                    await pace.next()
                    await loop.sock_sendall(connection, piece)
                    self.num_bytes += len(piece)

    async def ask(
        self, body: bytes, secret: str, *, path: str = CHAT, method: str = "POST"
    ) -> tuple[int, bytes]:
        """Send one request; return its status (0 for a broken connection) and the response."""
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            f"Authorization: Bearer {secret}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        ).encode()
        loop = asyncio.get_running_loop()
        answer = b""
        with suppress(OSError), await self.connect() as connection:
            await loop.sock_sendall(connection, head + body)
            self.num_bytes += len(head) + len(body)
            while chunk := await loop.sock_recv(connection, 64 * KIB):
                answer += chunk
        status = int(answer[9:12]) if answer.startswith(b"HTTP/1.1 ") else 0
        self.statuses[status] += 1
        if status >= 500:
            self.last_fault = answer.partition(b"\r\n\r\n")[2][:300].decode(errors="replace")
        return status, answer

    async def ask_again(
        self,
        requests: Iterable[tuple[bytes, str]],
        *,
        num_at_once: int,
        per_second: float,
        **options: Any,
    ) -> None:
        """Send requests in a closed loop of *num_at_once*, at most *per_second*."""
        pace, next_request = Pace(per_second, burst=num_at_once), iter(requests)

        async def loop() -> None:
            while not self.is_over:
                await pace.next()
                body, secret = next(next_request)
                _, answer = await self.ask(body, secret, **options)
                _, _, usage = answer.rpartition(b'"completion_tokens":')
                digits = usage.lstrip()[:6].split(b",")[0].rstrip(b"}")
                self.num_tokens += int(digits) if digits.isdigit() else 0

        await asyncio.gather(*(loop() for _ in range(num_at_once)))

    def chat(self, **fields: Any) -> bytes:
        """Return a chat body."""
        hello = {"model": self.spec.model, "messages": [{"role": "user", "content": "Hello!"}]}
        return json.dumps(hello | fields).encode()


class Pace:
    """Limits a rate to *per_second*, after an initial *burst*."""

    def __init__(self, per_second: float, burst: int = 1) -> None:
        self._interval_s = 1 / per_second
        self._next_s = time.perf_counter() - burst * self._interval_s

    async def next(self) -> None:
        """Wait until the next event is allowed."""
        now_s = time.perf_counter()
        self._next_s = max(self._next_s + self._interval_s, now_s - 200 * self._interval_s)
        await asyncio.sleep(max(self._next_s - now_s, 0))
