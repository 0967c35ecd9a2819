"""Refuses a request that has crashed its engine twice."""

from __future__ import annotations

import asyncio
import hashlib
from array import array
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import cached_property

import structlog

from stillhouse.clock import Clock
from stillhouse.engines.base import GenerateRequest
from stillhouse.errors import OverloadedError, QuarantinedRequestError
from stillhouse.fairness.semaphore import FairSemaphore

log = structlog.get_logger()

_NUM_CRASHES = 2
_MAX_REMEMBERED = 1024
_MAX_WAITING, _MAX_WAITING_PER_ACCOUNT = 64, 16


class Fingerprint:
    """
    Identifies requests of one account that are the same to an engine.

    Args:
        generate: The request's first sequence; the others differ in their seeds alone.

    """

    def __init__(self, account_id: int, model_id: str, generate: GenerateRequest) -> None:
        self.account_id = account_id
        self.model_id = model_id
        self._generate = generate

    @cached_property
    def digest(self) -> bytes:
        """A hash of account, model, prompt, sampling parameters and grammar; 16 bytes."""
        request = self._generate
        facts = (
            self.account_id,
            self.model_id,
            request.sampling,
            request.stop_token_ids,
            request.top_logprobs,
            request.grammar,
        )
        prompt = array("q", request.prompt_token_ids).tobytes()
        return hashlib.blake2b(repr(facts).encode() + prompt, digest_size=16).digest()


class Quarantine:
    """
    Records which requests an engine ran when it crashed.

    A request that an engine ran in two crashes is a suspect, until it has completed once. The only
    suspect of a crash is refused for a while. Several suspects of one crash, most of which are
    innocent, run one at a time: so the next crash has one suspect, and the others complete.

    Args:
        quarantine_s: How long after its last crash a request stays on record; 0 records none.

    """

    def __init__(self, clock: Clock, *, quarantine_s: float) -> None:
        self._clock = clock
        self._quarantine_s = quarantine_s
        self._records: OrderedDict[bytes, _Record] = OrderedDict()  # the latest crash last
        self._last_crashes: dict[str, _Crash] = {}  # by model
        self._slots: dict[str, FairSemaphore] = {}  # by model, for its suspects

    def __len__(self) -> int:
        """Returns how many requests are on record; bounded."""
        return len(self._records)

    def refuse(self, fingerprint: Fingerprint) -> None:
        """
        Refuses a request that is known to crash its engine.

        Raises:
            QuarantinedRequestError: It was the only suspect of a recent crash.

        """
        record = self._record_of(fingerprint)
        if record is None or not record.is_suspect or record.crash.num_suspects > 1:
            return
        left_s = record.until_s - self._clock.monotonic_s()
        log.warning(
            "request_quarantined",
            account_id=fingerprint.account_id,
            model=fingerprint.model_id,
            num_crashes=record.num_crashes,
        )
        raise QuarantinedRequestError(
            f"The engine crashed {record.num_crashes} times while it worked on this request (the "
            f"same prompt and parameters); it is refused for another {max(1, round(left_s))} s."
        )

    def is_suspect(self, fingerprint: Fingerprint) -> bool:
        """Returns whether the request must run in `isolation`."""
        record = self._record_of(fingerprint)
        return record is not None and record.is_suspect

    @asynccontextmanager
    async def isolation(
        self, fingerprint: Fingerprint, *, max_wait_s: float
    ) -> AsyncIterator[None]:
        """
        Runs a suspect while no other suspect runs at its engine.

        Raises:
            OverloadedError: The suspects before it took too long.

        """
        async with AsyncExitStack() as stack:
            slot = self._slots_of(fingerprint.model_id).acquire(fingerprint.account_id)
            try:
                async with asyncio.timeout(max_wait_s):
                    await stack.enter_async_context(slot)
            except TimeoutError as error:
                raise OverloadedError("Model busy, retry later", retry_after_s=1) from error
            yield

    def record_crash(self, fingerprint: Fingerprint, crash: int) -> None:
        """
        Records that the engine crashed while it ran the request.

        Args:
            crash: The number of the crash, counted by the engine.

        """
        if not self._quarantine_s:
            return
        last = self._last_crashes.get(fingerprint.model_id)
        if last is None or last.number != crash:
            last = self._last_crashes[fingerprint.model_id] = _Crash(crash)
        record = self._record_of(fingerprint) or _Record(last)
        if record.num_crashes == 0 or record.crash is not last:
            record.crash = last
            record.num_crashes += 1
            last.num_suspects += record.is_suspect
        record.until_s = self._clock.monotonic_s() + self._quarantine_s
        self._records[fingerprint.digest] = record
        self._records.move_to_end(fingerprint.digest)
        while len(self._records) > _MAX_REMEMBERED:
            self._records.popitem(last=False)

    def clear(self, fingerprint: Fingerprint) -> None:
        """Forgets the crashes of a request that was answered."""
        if self._records:
            self._records.pop(fingerprint.digest, None)

    def _record_of(self, fingerprint: Fingerprint) -> _Record | None:
        if not self._records:  # nearly always; a digest is expensive
            return None
        record = self._records.get(fingerprint.digest)
        if record is not None and record.until_s <= self._clock.monotonic_s():
            del self._records[fingerprint.digest]
            return None
        return record

    def _slots_of(self, model_id: str) -> FairSemaphore:
        if model_id not in self._slots:
            self._slots[model_id] = FairSemaphore(
                "the engine after its crashes",
                max_running=1,
                max_waiting=_MAX_WAITING,
                max_waiting_per_account=_MAX_WAITING_PER_ACCOUNT,
                clock=self._clock,
            )
        return self._slots[model_id]


@dataclass(slots=True)
class _Crash:
    """A crash of an engine, and how many of the requests that it ran were suspects."""

    number: int
    num_suspects: int = 0


@dataclass(slots=True)
class _Record:
    """The crashes of one request: how many, and the last of them."""

    crash: _Crash
    num_crashes: int = 0
    until_s: float = 0.0

    @property
    def is_suspect(self) -> bool:
        return self.num_crashes >= _NUM_CRASHES
