"""Grammars from outside, compiled once where they can do no harm before an engine sees them."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections import OrderedDict
from collections.abc import AsyncIterator
from pathlib import Path

from stillhouse.errors import EngineUnavailableError, InvalidRequestError, OverloadedError
from stillhouse.models.grammar.process import CompileLimits, GrammarProcess, KilledError


class GrammarCompiler:
    """
    Says whether a grammar compiles, and within bounds.

    Compilers of grammars are fast, but not on every input: an ``allOf`` of twenty patterns of
    twenty characters each runs for minutes in llguidance 1.9, taking memory all the while, and
    nothing within it stops that. So each grammar is compiled in a child process that is killed
    when it takes too long (vLLM's CVE-2026-55574). What this costs hardly depends on the
    tokenizer; it decides which token ids exist, and the first mask.

    Children start when they are first needed and end with this process. They are given nothing but
    the grammar and the tokenizer's path: no environment, no sockets.
    """

    def __init__(self, limits: CompileLimits | None = None) -> None:
        self._limits = limits or CompileLimits()
        self._places = asyncio.Semaphore(self._limits.max_processes)
        self._num_waiting = 0
        self._idle: list[GrammarProcess] = []
        self._alive: set[GrammarProcess] = set()
        self._ending: set[asyncio.Task[None]] = set()
        self._remembered: OrderedDict[bytes, None] = OrderedDict()
        self._is_closed = False

    @property
    def worker_pids(self) -> frozenset[int]:
        """The process ids of the children that have not been ended."""
        return frozenset(child.pid for child in self._alive)

    async def check(self, grammar: str, *, param: str, tokenizer_json: Path | None = None) -> None:
        """
        Return when *grammar* has been compiled, which takes no time if it was before.

        Args:
            grammar: As `grammar_of` and `tools_grammar` write it.
            param: The field that it comes from.
            tokenizer_json: The model's tokenizer; None: one token for each byte, and no others.

        Raises:
            InvalidRequestError: It does not compile, or takes too long or too much memory.
            OverloadedError: Too many others wait.
            EngineUnavailableError: The compiler is closed, or its processes die.

        """
        digest = hashlib.sha256(f"{tokenizer_json}\0{grammar}".encode()).digest()
        if digest in self._remembered:
            self._remembered.move_to_end(digest)
            return
        async with self._place():
            verdict = await self._compile(grammar, tokenizer_json)
        if verdict is not None:
            raise InvalidRequestError(f"{param} {verdict}", param=param)
        self._remember(digest)

    async def close(self) -> None:
        """End all children; checks that run or wait fail."""
        self._is_closed = True
        for child in list(self._alive):
            self._end(child)
        await asyncio.gather(*self._ending)

    @contextlib.asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        if self._num_waiting >= self._limits.max_waiting and self._places.locked():
            raise OverloadedError(
                f"{self._num_waiting} grammars wait to be compiled; come back in a second",
                retry_after_s=1,
            )
        self._num_waiting += 1
        try:
            await self._places.acquire()
        finally:
            self._num_waiting -= 1
        try:
            yield
        finally:
            self._places.release()

    async def _compile(self, grammar: str, tokenizer_json: Path | None) -> str | None:
        """What is wrong with the grammar. A child that was killed from outside has a successor."""
        with contextlib.suppress(KilledError):
            return await self._try(grammar, tokenizer_json)
        try:
            return await self._try(grammar, tokenizer_json)
        except KilledError as error:
            raise EngineUnavailableError("The grammar compiler is killed by others.") from error

    async def _try(self, grammar: str, tokenizer_json: Path | None) -> str | None:
        child = await self._child()
        try:
            verdict = await child.compile(grammar, tokenizer_json)
        except BaseException:  # cancelled, too: nobody knows how long it would go on
            self._end(child)
            raise
        if verdict.ends_process or self._is_closed:
            self._end(child)
        else:
            self._idle.append(child)
        return verdict.fault

    async def _child(self) -> GrammarProcess:
        if self._is_closed:
            raise EngineUnavailableError("The grammar compiler is closed.")
        if self._idle:
            return self._idle.pop()
        child = await GrammarProcess.spawn(self._limits)
        self._alive.add(child)
        if self._is_closed:
            self._end(child)
        return child

    def _end(self, child: GrammarProcess) -> None:
        if child not in self._alive:
            return
        self._alive.discard(child)
        if child in self._idle:
            self._idle.remove(child)
        child.kill()
        task = asyncio.create_task(child.wait(), name="grammar-worker-ends")
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def _remember(self, digest: bytes) -> None:
        self._remembered[digest] = None
        if len(self._remembered) > self._limits.max_remembered:
            self._remembered.popitem(last=False)
