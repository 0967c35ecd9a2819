"""Defines the attacks, each bounded in bytes, connections, requests per second and time."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import cycle
from typing import Any

from benchmarks.abuse.attack import CHAT, KIB, MIB, Attack, AttackSpec, Pace

COUNT_TOKENS = "/anthropic/v1/messages/count_tokens"
CRASH_SEED = 7


async def header_lines(attack: Attack) -> None:
    """Send endless header lines on four connections."""
    piece = b"".join(b"x-%d: %s\r\n" % (number, b"a" * 100) for number in range(500))
    head = b"GET /livez HTTP/1.1\r\nHost: x\r\n"
    each = (attack.flood(head, piece, most_bytes=160 * MIB, bytes_per_s=10 * MIB) for _ in range(4))
    await asyncio.gather(*each)


async def header_value(attack: Attack) -> None:
    """Send one endless header value."""
    head = b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Long: "
    await attack.flood(head, b"a" * 64 * KIB, most_bytes=64 * MIB, bytes_per_s=32 * MIB)


async def pipelined(attack: Attack) -> None:
    """Pipeline requests on four connections without reading the responses."""
    piece = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n" * 1000
    each = (attack.flood(b"", piece, most_bytes=6 * MIB, bytes_per_s=MIB) for _ in range(4))
    await asyncio.gather(*each)


async def silent_sockets(attack: Attack) -> None:
    """Open connections that send nothing, more than a server with 1024 files can have."""
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
    """Send tokens of the greatest length that name a real key and are signed with another."""
    tokens = [
        sign(attack.spec, secret="sh_" + "0" * 33, jti="x" * 1300 + str(number))
        for number in range(500)
    ]
    requests = ((b"{}", token) for token in cycle(tokens))
    await attack.ask_again(requests, num_at_once=16, per_second=400)


async def self_signed_tokens(attack: Attack) -> None:
    """Send new, validly signed tokens for a path that does not exist."""
    tokens = [sign(attack.spec, secret=attack.spec.keys[0], jti=str(n)) for n in range(5000)]
    requests = ((b"", token) for token in cycle(tokens))
    await attack.ask_again(
        requests, num_at_once=16, per_second=400, path="/v1/nothing", method="GET"
    )


async def many_keys(attack: Attack) -> None:
    """Keep 190 requests in flight with one account and twenty keys."""
    key = attack.spec.keys[0]
    minted = [key]
    for number in range(20):
        body = json.dumps({"name": f"key-{number}"}).encode()
        status, answer = await attack.ask(body, key, path="/v1/api-tokens")
        if status == 200 and b'"token"' in answer:  # the sink creates none
            minted.append(json.loads(answer.partition(b"\r\n\r\n")[2])["token"])
    # Answers of one length would end together, and free slots in bursts.
    bodies = [attack.chat(max_tokens=n, temperature=0) for n in (8, 2, 14, 5, 20, 11, 17)]
    requests = zip(cycle(bodies), cycle(minted), strict=False)
    await attack.ask_again(requests, num_at_once=190, per_second=60)


async def slow_grammars(attack: Attack) -> None:
    """Send valid, distinct schemas whose grammars take long to compile, sixteen at once."""

    def slow(number: int) -> bytes:
        texts = [{"type": "string", "maxLength": n + number} for n in range(1, 201)]
        lists = [{"type": "array", "items": text, "maxItems": 900} for text in texts]
        properties = {f"p{n}": items for n, items in enumerate(lists)}
        schema = {"type": "object", "additionalProperties": False, "properties": properties}
        return attack.chat(max_tokens=1, response_format=schema_format(schema))

    bodies = [slow(number) for number in range(100)]
    requests = ((body, attack.spec.keys[0]) for body in cycle(bodies))
    await attack.ask_again(requests, num_at_once=16, per_second=20)


async def bad_schemas(attack: Attack) -> None:
    """Send a schema that no checker finishes from two accounts, once a second each."""
    patterns = [{"pattern": f"(a|b)*a(a|b){{{n}}}"} for n in range(20)]
    schema = {"type": "string", "allOf": patterns}
    body = attack.chat(max_tokens=1, response_format=schema_format(schema))
    requests = ((body, key) for key in cycle(attack.spec.keys))
    await attack.ask_again(requests, num_at_once=60, per_second=2)


async def large_bodies(attack: Attack) -> None:
    """Request free token counts of thirty-two bodies of seven MiB at once."""
    text = "lamb " * (7 * MIB // 5)
    body = json.dumps(
        {"model": attack.spec.model, "messages": [{"role": "user", "content": text}]}
    ).encode()
    requests = ((body, key) for key in cycle(attack.spec.keys[:1]))
    await attack.ask_again(requests, num_at_once=32, per_second=10, path=COUNT_TOKENS)


async def worker_crash(attack: Attack) -> None:
    """Send one request that crashes the engine's worker, after a second."""
    await asyncio.sleep(1)
    await attack.ask(attack.chat(seed=CRASH_SEED, max_tokens=8), attack.spec.keys[0])


async def unread_streams(attack: Attack) -> None:
    """Open thirty-two long streams and read none."""
    body = attack.chat(stream=True, max_tokens=1900)
    head = (
        f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {attack.spec.keys[0]}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode()
    loop = asyncio.get_running_loop()
    open_sockets = [await attack.connect(receive_bytes=2048) for _ in range(32)]
    for each in open_sockets:
        await loop.sock_sendall(each, head + body)
    await asyncio.sleep(attack.spec.seconds)
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


def sign(spec: AttackSpec, *, secret: str, jti: str) -> str:
    """Return a scoped token of the attacker's account (see docs/api.md)."""
    name = base64.b64encode(b"main").decode()
    uid = f"sh:{spec.account_id}"
    parts = [
        {"alg": "HS256", "typ": "JWT", "kid": f"{uid}:{name}"},
        {"sub": uid, "exp": int(time.time()) + 600, "jti": jti},
    ]
    signed = ".".join(base64url(json.dumps(part).encode()) for part in parts)
    digest = hmac.new(secret.encode(), signed.encode(), hashlib.sha256).digest()
    return f"jwt:{signed}.{base64url(digest)}"


def base64url(data: bytes) -> str:
    """Return *data* in base64url without padding, as in JSON Web Tokens."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def schema_format(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a `response_format`."""
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
