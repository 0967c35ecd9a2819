"""Receives and parses request bodies without delaying other requests."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Self, TypeVar

from starlette.requests import Request

from stillhouse.accounts.accounts import Principal
from stillhouse.api.bodies.admission import SMALL_BYTES, BodyAdmission, BodyIntake, BodyRules
from stillhouse.api.bodies.config import BodiesConfig
from stillhouse.api.bodies.frames import Work
from stillhouse.api.bodies.pool import BodyPool, PoolRules
from stillhouse.api.bodies.request_body import GZIP, is_packed, receive_body, unpack
from stillhouse.clock import Clock
from stillhouse.fairness.semaphore import FairSemaphore
from stillhouse.settings import MIB

#: Smaller bodies are parsed at once, in 0.3 ms at worst.
_TINY_BYTES = 8 << 10
_MAX_WAITING_HERE = 4000

T = TypeVar("T")


class BodyReader:
    """Receives bodies by account, and parses each on the event loop or in a child process."""

    def __init__(self, admission: BodyAdmission, pool: BodyPool, clock: Clock) -> None:
        self._admission = admission
        self._pool = pool
        self._max_bytes = admission.rules.max_bytes
        self._here = FairSemaphore(
            "request bodies to be read",
            max_running=1,
            max_waiting=_MAX_WAITING_HERE,
            max_waiting_per_account=_MAX_WAITING_HERE // 4,
            clock=clock,
            credit_s=0,
        )

    @classmethod
    def under(cls, chosen: BodiesConfig, *, max_body_mib: int, clock: Clock) -> Self:
        """Creates a reader within the operator's bounds."""
        max_bytes = max_body_mib * MIB
        total_bytes = max(chosen.max_mib_in_flight * MIB, max_bytes)
        rules = BodyRules(
            max_bytes=max_bytes,
            max_bytes_in_flight=total_bytes,
            max_bytes_in_flight_per_account=min(
                max(chosen.max_mib_in_flight_per_account * MIB, max_bytes), total_bytes
            ),
            bytes_per_minute=chosen.mib_per_minute * MIB,
            burst_bytes=max(chosen.burst_mib * MIB, max_bytes),
            max_waiting=chosen.max_waiting,
            max_wait_s=chosen.max_wait_s,
        )
        pool = PoolRules(
            num_processes=chosen.processes,
            timeout_s=chosen.timeout_s,
            memory_mib=chosen.process_memory_mib,
        )
        return cls(BodyAdmission(rules, clock), BodyPool(pool, clock), clock)

    @asynccontextmanager
    async def read(
        self, request: Request, principal: Principal, parse: Callable[[bytes], T]
    ) -> AsyncIterator[T]:
        """
        Receives the request's body and yields its parsed value.

        Inside the context, a large body counts as in flight for its account.

        Args:
            parse: A function of a module, or a `partial` of one: it may run in another process.

        Raises:
            RateLimitError: The account sends too much, at once or per minute.
            OverloadedError: Too many bodies of this account, or in all, wait to be parsed.
            BodyTooSlowError: The body has not arrived in time.
            BodyTooLargeError: It has too many bytes, compressed or not, or parsing takes too much
            time or memory.
            InvalidRequestError: It is not valid gzip, or *parse* refuses it.
            EngineUnavailableError: No process can parse a large body.

        """
        packed = is_packed(request)
        declared_bytes = None if packed else _declared_bytes(request)
        with self._admission.intake(principal.account_id, declared_bytes=declared_bytes) as intake:
            await intake.begin()
            body = await receive_body(
                request, max_bytes=self._max_bytes, on_received=intake.on_received
            )
            if packed or len(body) > _TINY_BYTES:
                value = await self._read_larger(principal, body, parse, intake, is_packed=packed)
            else:
                value = parse(body)
            del body
            yield value

    async def close(self) -> None:
        """Ends the processes that parse large bodies."""
        await self._pool.close()

    async def _read_larger(
        self,
        principal: Principal,
        body: bytes,
        parse: Callable[[bytes], T],
        intake: BodyIntake,
        *,
        is_packed: bool,
    ) -> T:
        if len(body) <= SMALL_BYTES and not (is_packed and _is_large_unpacked(body)):
            return await self._read_here(principal, body, parse, is_packed=is_packed)
        if is_packed:
            await intake.reserve_for_unpacking()
        work = Work(parse, is_packed=is_packed, max_bytes=self._max_bytes)
        value: T = await self._pool.read(principal.account_id, work, body, key_id=principal.key_id)
        return value

    async def _read_here(
        self, principal: Principal, body: bytes, parse: Callable[[bytes], T], *, is_packed: bool
    ) -> T:
        """Parses one body, then yields to the event loop, so that many cause no long pause."""
        async with self._here.acquire(principal.account_id, principal.key_id):
            try:
                return parse(unpack(body, self._max_bytes) if is_packed else body)
            finally:
                await asyncio.sleep(0)


def _is_large_unpacked(packed: bytes) -> bool:
    try:
        begin = zlib.decompressobj(GZIP).decompress(packed, SMALL_BYTES + 1)
    except zlib.error:
        return False  # `unpack` refuses it
    return len(begin) > SMALL_BYTES


def _declared_bytes(request: Request) -> int | None:
    length = request.headers.get("content-length", "")
    return int(length) if length.isascii() and length.isdecimal() and len(length) < 20 else None
