"""
The attackers of `abuse.py`, each a process of its own, and the sink that stands in for a server.

    python benchmarks/abuse_attackers.py      # reads an `Order` as one line of JSON, says "ready",
                                              # begins at the next line, prints what it did

Every attack is bounded in bytes, in connections, in requests per second and in time, and comes from
other loopback addresses than the victim's. What it sends is made before it begins, and it is nicer
than the others to the processor, which it shares with them.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import os
import resource
import socket
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

KIB, MIB = 1 << 10, 1 << 20
CHAT = "/v1/openai/chat/completions"
COUNT_TOKENS = "/anthropic/v1/messages/count_tokens"
CRASH_SEED = 7
ADDRESSES = ("127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5")


@dataclass(frozen=True)
class Order:
    """
    What to attack.

    Args:
        keys: Secrets of the attacker's accounts, one each.
        account_id: Of the first of them.

    """

    attack: str
    port: int
    seconds: float
    model: str
    keys: list[str]
    account_id: int


@dataclass
class Attack:
    """One attack while it runs."""

    order: Order
    num_bytes: int = 0
    num_connections: int = 0
    num_tokens: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    last_fault: str = ""
    _addresses: Iterable[str] = field(default_factory=lambda: cycle(ADDRESSES))
    _end_s: float = 0.0

    def begin(self) -> None:
        """Let the time run."""
        self._end_s = time.perf_counter() + self.order.seconds

    @property
    def is_over(self) -> bool:
        """Whether the time is up."""
        return time.perf_counter() >= self._end_s

    def result(self) -> dict[str, Any]:
        """Return what was done."""
        return {
            "mib": self.num_bytes / MIB,
            "connections": self.num_connections,
            "tokens": self.num_tokens,
            "last_fault": self.last_fault,
            "statuses": {str(status): n for status, n in sorted(self.statuses.items())},
        }

    def socket(self, receive_bytes: int | None = None) -> socket.socket:
        """Return an unconnected socket on one of the attackers' addresses."""
        made = socket.socket()
        made.setblocking(False)
        if receive_bytes is not None:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        made.bind((next(iter(self._addresses)), 0))
        return made

    async def connect(self, receive_bytes: int | None = None) -> socket.socket:
        """Open a connection."""
        made = self.socket(receive_bytes)
        try:
            await asyncio.get_running_loop().sock_connect(made, ("127.0.0.1", self.order.port))
        except OSError:
            made.close()
            raise
        self.num_connections += 1
        return made

    async def flood(
        self, head: bytes, piece: bytes, *, most_bytes: int, bytes_per_s: float
    ) -> None:
        """Send *head*, then *piece* again and again; connect anew when the server closes."""
        pace = Pace(bytes_per_s / len(piece))
        loop = asyncio.get_running_loop()
        while not self.is_over and self.num_bytes < most_bytes:
            await pace.next()
            with suppress(OSError), await self.connect() as connection:
                await loop.sock_sendall(connection, head)
                while not self.is_over and self.num_bytes < most_bytes:
                    await pace.next()
                    await loop.sock_sendall(connection, piece)
                    self.num_bytes += len(piece)

    async def ask(
        self, body: bytes, secret: str, *, path: str = CHAT, method: str = "POST"
    ) -> tuple[int, bytes]:
        """Send one request; return its status (0 when the connection broke) and what came."""
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
        """Ask in a closed loop of *num_at_once*, and at most so often."""
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
        hello = {"model": self.order.model, "messages": [{"role": "user", "content": "Hello!"}]}
        return json.dumps(hello | fields).encode()


class Pace:
    """Lets through *per_second*, and *burst* at once in the beginning."""

    def __init__(self, per_second: float, burst: int = 1) -> None:
        self._interval_s = 1 / per_second
        self._next_s = time.perf_counter() - burst * self._interval_s

    async def next(self) -> None:
        """Wait for one's time."""
        now_s = time.perf_counter()
        self._next_s = max(self._next_s + self._interval_s, now_s - 200 * self._interval_s)
        await asyncio.sleep(max(self._next_s - now_s, 0))


async def header_lines(attack: Attack) -> None:
    """Endless header lines on four connections."""
    piece = b"".join(b"x-%d: %s\r\n" % (number, b"a" * 100) for number in range(500))
    head = b"GET /livez HTTP/1.1\r\nHost: x\r\n"
    each = (attack.flood(head, piece, most_bytes=160 * MIB, bytes_per_s=10 * MIB) for _ in range(4))
    await asyncio.gather(*each)


async def header_value(attack: Attack) -> None:
    """One header value without an end."""
    head = b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Long: "
    await attack.flood(head, b"a" * 64 * KIB, most_bytes=64 * MIB, bytes_per_s=32 * MIB)


async def pipelined(attack: Attack) -> None:
    """Requests on four connections, whose answers nobody reads."""
    piece = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n" * 1000
    each = (attack.flood(b"", piece, most_bytes=6 * MIB, bytes_per_s=MIB) for _ in range(4))
    await asyncio.gather(*each)


async def silent_sockets(attack: Attack) -> None:
    """Connections that send nothing: more than a server with 1024 files can have."""
    pace = Pace(500)
    open_sockets: list[socket.socket] = []
    while not attack.is_over:
        await pace.next()
        if len(open_sockets) < 1500:
            with suppress(OSError):
                open_sockets.append(await asyncio.wait_for(attack.connect(), 1))
    for each in open_sockets:
        each.close()


async def forged_tokens(attack: Attack) -> None:
    """Tokens that name a real key and are signed with another, as long as they may be."""
    tokens = [
        sign(attack.order, secret="sh_" + "0" * 33, jti="x" * 1300 + str(number))
        for number in range(500)
    ]
    requests = ((b"{}", token) for token in cycle(tokens))
    await attack.ask_again(requests, num_at_once=16, per_second=400)


async def self_signed_tokens(attack: Attack) -> None:
    """New tokens, rightly signed by a customer, for a path that does not exist."""
    tokens = [sign(attack.order, secret=attack.order.keys[0], jti=str(n)) for n in range(5000)]
    requests = ((b"", token) for token in cycle(tokens))
    await attack.ask_again(
        requests, num_at_once=16, per_second=400, path="/v1/nothing", method="GET"
    )


async def many_keys(attack: Attack) -> None:
    """One account with twenty keys, and 190 requests in flight."""
    key = attack.order.keys[0]
    minted = [key]
    for number in range(20):
        body = json.dumps({"name": f"key-{number}"}).encode()
        status, answer = await attack.ask(body, key, path="/v1/api-tokens")
        if status == 200 and b'"token"' in answer:  # the sink mints none
            minted.append(json.loads(answer.partition(b"\r\n\r\n")[2])["token"])
    # Answers of one length would end together, as they began, and a slot come free in bursts.
    bodies = [attack.chat(max_tokens=n, temperature=0) for n in (8, 2, 14, 5, 20, 11, 17)]
    requests = zip(cycle(bodies), cycle(minted), strict=False)
    await attack.ask_again(requests, num_at_once=190, per_second=60)


async def slow_grammars(attack: Attack) -> None:
    """Good schemas, no two alike, whose grammars take long to compile; sixteen at once."""

    def slow(number: int) -> bytes:
        texts = [{"type": "string", "maxLength": n + number} for n in range(1, 201)]
        lists = [{"type": "array", "items": text, "maxItems": 900} for text in texts]
        properties = {f"p{n}": items for n, items in enumerate(lists)}
        schema = {"type": "object", "additionalProperties": False, "properties": properties}
        return attack.chat(max_tokens=1, response_format=schema_format(schema))

    bodies = [slow(number) for number in range(100)]
    requests = ((body, attack.order.keys[0]) for body in cycle(bodies))
    await attack.ask_again(requests, num_at_once=16, per_second=20)


async def bad_schemas(attack: Attack) -> None:
    """Two accounts that send the same schema once a second: one that no checker finishes."""
    patterns = [{"pattern": f"(a|b)*a(a|b){{{n}}}"} for n in range(20)]
    schema = {"type": "string", "allOf": patterns}
    body = attack.chat(max_tokens=1, response_format=schema_format(schema))
    requests = ((body, key) for key in cycle(attack.order.keys))
    await attack.ask_again(requests, num_at_once=60, per_second=2)


async def large_bodies(attack: Attack) -> None:
    """Thirty-two bodies of seven MiB at once, whose tokens shall be counted for nothing."""
    text = "lamb " * (7 * MIB // 5)
    body = json.dumps(
        {"model": attack.order.model, "messages": [{"role": "user", "content": text}]}
    ).encode()
    requests = ((body, key) for key in cycle(attack.order.keys[:1]))
    await attack.ask_again(requests, num_at_once=32, per_second=10, path=COUNT_TOKENS)


async def worker_crash(attack: Attack) -> None:
    """One request that takes the engine's worker with it, a second after the beginning."""
    await asyncio.sleep(1)
    await attack.ask(attack.chat(seed=CRASH_SEED, max_tokens=8), attack.order.keys[0])


async def unread_streams(attack: Attack) -> None:
    """Thirty-two long streams, none of which is read."""
    body = attack.chat(stream=True, max_tokens=1900)
    head = (
        f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {attack.order.keys[0]}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode()
    loop = asyncio.get_running_loop()
    open_sockets = [await attack.connect(receive_bytes=2048) for _ in range(32)]
    for each in open_sockets:
        await loop.sock_sendall(each, head + body)
    await asyncio.sleep(attack.order.seconds)
    for each in open_sockets:
        each.close()


ATTACKS: dict[str, Callable[[Attack], Awaitable[None]]] = {
    attack.__name__: attack
    for attack in (
        header_lines,
        header_value,
        pipelined,
        silent_sockets,
        forged_tokens,
        self_signed_tokens,
        many_keys,
        slow_grammars,
        bad_schemas,
        large_bodies,
        worker_crash,
        unread_streams,
    )
}


def sign(order: Order, *, secret: str, jti: str) -> str:
    """Write a scoped token of the attacker's account (see docs/api.md)."""
    name = base64.b64encode(b"main").decode()
    uid = f"sh:{order.account_id}"
    parts = [
        {"alg": "HS256", "typ": "JWT", "kid": f"{uid}:{name}"},
        {"sub": uid, "exp": int(time.time()) + 600, "jti": jti},
    ]
    signed = ".".join(base64url(json.dumps(part).encode()) for part in parts)
    digest = hmac.new(secret.encode(), signed.encode(), hashlib.sha256).digest()
    return f"jwt:{signed}.{base64url(digest)}"


def base64url(data: bytes) -> str:
    """Return *data* as JSON Web Tokens have it."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def schema_format(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a `response_format`."""
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}


class Sink(asyncio.Protocol):
    """Reads everything, and answers whole requests with next to nothing: the control."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin with no request."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._head = b""
        self._num_body_bytes = 0
        self._is_last = False

    def data_received(self, data: bytes) -> None:
        """Take it, and answer the requests that end in it."""
        if self._num_body_bytes:
            taken = min(self._num_body_bytes, len(data))
            self._num_body_bytes -= taken
            data = data[taken:]
            if not self._num_body_bytes:
                self._answer()
        if not data:
            return
        self._head = (self._head + data)[-256 * KIB :]
        while b"\r\n\r\n" in self._head:
            head, _, rest = self._head.partition(b"\r\n\r\n")
            _, _, length = head.partition(b"Content-Length: ")
            num_bytes = int(length.split(b"\r\n")[0]) if length else 0
            self._head = rest[num_bytes:]
            self._is_last = b"Connection: close" in head
            self._num_body_bytes = max(num_bytes - len(rest), 0)
            if not self._num_body_bytes:
                self._answer()
        if len(self._head) >= 128 * KIB:
            self._head = b""

    def _answer(self) -> None:
        if self._transport.is_closing():
            return
        if self._transport.get_write_buffer_size() < 64 * KIB:
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        if self._is_last:
            self._transport.close()


async def sink() -> None:
    """Print the port, and read everything until the end of stdin."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Sink, "127.0.0.1", 0, backlog=2048)
    say({"port": server.sockets[0].getsockname()[1]})
    await loop.run_in_executor(None, sys.stdin.readline)
    os._exit(0)


async def run(order: Order) -> None:
    """Attack at the next line of stdin."""
    attack = Attack(order)
    say("ready")
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    attack.begin()
    with suppress(TimeoutError):
        await asyncio.wait_for(ATTACKS[order.attack](attack), order.seconds + 0.5)
    say(attack.result())
    os._exit(0)  # whatever still waits for an answer leaves without it


def say(fact: object) -> None:
    """Print one line of JSON."""
    sys.stdout.write(json.dumps(fact) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Be the sink, or the attacker that stdin orders."""
    os.nice(10)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    question = json.loads(sys.stdin.readline())
    asyncio.run(sink() if question == "sink" else run(Order(**question)))


if __name__ == "__main__":
    main()
