"""Compiles clients' grammars once in a bounded child process before an engine sees them."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from stillhouse.clock import Clock, SystemClock
from stillhouse.errors import EngineUnavailableError, InvalidRequestError, OverloadedError
from stillhouse.fairness.recent_work import RecentWork
from stillhouse.fairness.semaphore import FairSemaphore, Permit
from stillhouse.text.grammar.config import GrammarsConfig
from stillhouse.text.grammar.process import GrammarProcess, KilledError
from stillhouse.text.grammar.verdicts import Verdicts
from stillhouse.workers.pool import WorkerPool

_HALF_LIFE_S = 60.0


@dataclass(frozen=True, slots=True)
class Owner:
    """
    The account that owns a grammar.

    Args:
        charge: Receives the seconds of a compilation, valid or not; not called for a known
            grammar.

    """

    account_id: int
    key_id: int
    charge: Callable[[float], None]


class GrammarCompiler:
    """
    Checks that a grammar compiles within bounds.

    Compilers of grammars are fast, but not on every input: an ``allOf`` of twenty patterns of
    twenty characters each runs for minutes in llguidance 1.9, taking memory all the while, and
    nothing within it stops that. So each grammar is compiled in a child process that is killed
    when it takes too long (vLLM's CVE-2026-55574). What this costs hardly depends on the
    tokenizer; it decides which token ids exist, and the first mask.

    Children start when they are first needed and end with this process. They are given nothing but
    the grammar and the tokenizer's path: no environment, no sockets.

    Verdicts are remembered, good or bad, and further requests of the same account wait for the
    running compilation of the same grammar. The next grammar belongs to the account with the least
    compile time, and one process is reserved for accounts with little recent use; so an account
    that sends many slow schemas waits behind its own.
    """

    def __init__(self, limits: GrammarsConfig | None = None, clock: Clock | None = None) -> None:
        self._limits = limits = limits or GrammarsConfig()
        clock = clock or SystemClock()
        self._recent = RecentWork(half_life_s=_HALF_LIFE_S, clock=clock)
        self._slots = FairSemaphore(
            "their grammars to be compiled",
            max_running=limits.processes,
            max_running_per_account=1,
            max_waiting=limits.max_waiting,
            max_waiting_per_account=limits.max_waiting_per_account,
            num_reserved=min(limits.processes - 1, 1),
            is_heavy=self._is_heavy,
            clock=clock,
        )
        self._verdicts = Verdicts(
            max_remembered=limits.max_remembered, bad_for_s=limits.bad_for_s, clock=clock
        )
        self._checks: dict[tuple[int, bytes], _Check] = {}
        self._workers = WorkerPool[GrammarProcess](
            max_workers=limits.processes, closed="The grammar compiler is closed."
        )

    @property
    def worker_pids(self) -> frozenset[int]:
        """The process ids of the children that have not been ended."""
        return self._workers.pids

    async def check(
        self, grammar: str, *, param: str, owner: Owner, tokenizer_json: Path | None = None
    ) -> None:
        """
        Returns when *grammar* has been compiled, which takes no time if it was before.

        Args:
            grammar: As `write_grammar` writes it.
            param: The field that it comes from.
            tokenizer_json: The model's tokenizer; None: one token for each byte, and no others.

        Raises:
            InvalidRequestError: It does not compile, or takes too long or too much memory.
            OverloadedError: Too many others wait, or it has waited too long.
            EngineUnavailableError: The compiler is closed, or its processes die.

        """
        digest = hashlib.sha256(f"{tokenizer_json}\0{grammar}".encode()).digest()
        verdict = self._verdicts.find(digest)
        if verdict is None:
            fault = await self._check_once(digest, grammar, owner, tokenizer_json)
        else:
            (fault,) = verdict
        if fault is not None:
            raise InvalidRequestError(f"{param} {fault}", param=param)

    async def close(self) -> None:
        """Ends all children; checks that run or wait fail."""
        await self._workers.close()

    async def _check_once(
        self, digest: bytes, grammar: str, owner: Owner, tokenizer_json: Path | None
    ) -> str | None:
        """Joins the running check of the same grammar for the same account, or starts it."""
        key = (owner.account_id, digest)
        check = self._checks.get(key)
        if check is None:
            task = asyncio.create_task(
                self._find_out(digest, grammar, owner, tokenizer_json), name="grammar-check"
            )
            check = self._checks[key] = _Check(task)
            task.add_done_callback(lambda _: self._forget(key, check))
        check.num_waiting += 1
        try:
            return await asyncio.shield(check.task)
        finally:
            check.num_waiting -= 1
            if not check.num_waiting and not check.task.done():
                self._forget(key, check)
                check.task.cancel()

    def _forget(self, key: tuple[int, bytes], check: _Check) -> None:
        if self._checks.get(key) is check:
            del self._checks[key]
        if check.task.done() and not check.task.cancelled():
            check.task.exception()  # retrieved here, as there may be no waiter left

    async def _find_out(
        self, digest: bytes, grammar: str, owner: Owner, tokenizer_json: Path | None
    ) -> str | None:
        slot: Permit | None = None
        try:
            async with (
                asyncio.timeout(self._limits.max_wait_s) as waiting,
                self._slots.acquire(owner.account_id, owner.key_id) as slot,
            ):
                waiting.reschedule(None)
                if verdict := self._verdicts.find(digest):  # another account was quicker
                    return verdict[0]
                fault = await self._compile(
                    grammar, tokenizer_json, is_nice=self._is_heavy(owner.account_id)
                )
                self._verdicts.note(digest, fault)
                return fault
        except TimeoutError as error:
            raise OverloadedError(
                f"The grammar has waited {self._limits.max_wait_s:g} s to be compiled; come back "
                "in a second",
                retry_after_s=1,
            ) from error
        finally:
            if slot is not None:
                self._recent.add(owner.account_id, slot.held_s)
                owner.charge(slot.held_s)

    def _is_heavy(self, account_id: int) -> bool:
        return self._recent.of(account_id) >= self._limits.heavy_from_s

    async def _compile(
        self, grammar: str, tokenizer_json: Path | None, *, is_nice: bool
    ) -> str | None:
        """Returns the grammar's fault; retries with a new child if one was killed from outside."""
        with contextlib.suppress(KilledError):
            return await self._try(grammar, tokenizer_json, is_nice=is_nice)
        try:
            return await self._try(grammar, tokenizer_json, is_nice=is_nice)
        except KilledError as error:
            raise EngineUnavailableError("The grammar compiler is killed by others.") from error

    async def _try(self, grammar: str, tokenizer_json: Path | None, *, is_nice: bool) -> str | None:
        async with self._workers.lend(
            partial(GrammarProcess.spawn, self._limits, is_nice=is_nice),
            fits=lambda worker: worker.is_nice is is_nice,
        ) as worker:
            verdict = await worker.compile(grammar, tokenizer_json)
            if verdict.ends_process:
                self._workers.end(worker)
            return verdict.fault


@dataclass(slots=True)
class _Check:
    """A running compilation, and the number of requests that wait for it."""

    task: asyncio.Task[str | None]
    num_waiting: int = 0
