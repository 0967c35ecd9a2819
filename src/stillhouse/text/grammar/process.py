"""Runs a child process that compiles one grammar at a time."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from stillhouse.errors import EngineUnavailableError
from stillhouse.settings import MIB
from stillhouse.text.grammar.config import GrammarsConfig
from stillhouse.text.grammar.frames import (
    MAX_ANSWER_BYTES,
    Compiled,
    CompileRequest,
    Loaded,
    decode_answer,
    encode,
)
from stillhouse.workers.process import PipedWorker

_WORKER = "stillhouse.text.grammar.worker"
_NICENESS = 10


class KilledError(Exception):
    """The process was killed from outside; the grammar may be valid."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """
    The verdict on a grammar.

    Args:
        fault: The reason why it is invalid, to follow its name; None where it is valid.
        ends_process: The process is dead, or has to be ended.

    """

    fault: str | None
    ends_process: bool = False


class GrammarProcess:
    """
    Compiles one grammar at a time in a ``stillhouse.text.grammar.worker``.

    Attributes:
        is_nice: Whether the worker runs behind other processes.

    """

    def __init__(self, worker: PipedWorker, limits: GrammarsConfig, *, is_nice: bool) -> None:
        self._worker = worker
        self._limits = limits
        self.is_nice = is_nice

    @classmethod
    async def spawn(cls, limits: GrammarsConfig, *, is_nice: bool = False) -> Self:
        """
        Starts the worker.

        Args:
            is_nice: The worker runs behind other processes.

        Raises:
            EngineUnavailableError: It cannot be run.

        """
        try:
            worker = await PipedWorker.spawn(_WORKER, niceness=_NICENESS if is_nice else 0)
        except OSError as error:
            raise EngineUnavailableError(f"No grammar can be compiled now: {error}.") from error
        return cls(worker, limits, is_nice=is_nice)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._worker.pid

    @property
    def is_alive(self) -> bool:
        """Whether the worker can accept a grammar, as far as is known."""
        return self._worker.is_alive

    def kill(self) -> None:
        """Kills the worker at once; `wait` has to follow."""
        self._worker.kill()

    async def wait(self) -> int:
        """Returns the exit code once the worker has ended."""
        return await self._worker.wait()

    async def compile(self, grammar: str, tokenizer_json: Path | None) -> Verdict:
        """
        Compiles *grammar* and computes its first mask, within the limits.

        Raises:
            KilledError: The process was killed by others.
            EngineUnavailableError: It could not load the tokenizer.

        """
        request = CompileRequest(
            grammar,
            None if tokenizer_json is None else str(tokenizer_json),
            self._limits.process_memory_mib * MIB,
        )
        with contextlib.suppress(OSError):  # the worker is gone, which `_loaded` finds out
            await self._worker.send(encode(request))
        await self._loaded(tokenizer_json)
        try:
            async with asyncio.timeout(self._limits.timeout_s):
                answer = await self._answer()
        except TimeoutError:
            took = f"{self._limits.timeout_s:g} s"
            return Verdict(f"takes longer than {took} to compile; {_SIMPLER}", ends_process=True)
        if isinstance(answer, Compiled):
            return _verdict(answer.reason)
        await self._raise_if_killed()
        took = f"{self._limits.process_memory_mib} MiB"
        return Verdict(f"takes more than {took} to compile; {_SIMPLER}", ends_process=True)

    async def _loaded(self, tokenizer_json: Path | None) -> None:
        try:
            async with asyncio.timeout(self._limits.start_timeout_s):
                answer = await self._answer()
        except TimeoutError as error:
            raise EngineUnavailableError(
                f"The grammar compiler has not loaded {tokenizer_json or 'its tokenizer'} within "
                f"{self._limits.start_timeout_s:g} s."
            ) from error
        if answer is None:
            await self._raise_if_killed()
            raise EngineUnavailableError(
                f"The grammar compiler cannot load {tokenizer_json or 'its tokenizer'} (exit code "
                f"{await self._worker.wait()})."
            )

    async def _answer(self) -> Loaded | Compiled | None:
        """Returns the next message; None where the worker has ended."""
        frame = await self._worker.receive(max_bytes=MAX_ANSWER_BYTES)
        return None if frame is None else decode_answer.decode(frame)

    async def _raise_if_killed(self) -> None:
        if await self._worker.wait() == -signal.SIGKILL:
            raise KilledError


_SIMPLER = "right would be a simpler one: fewer and shorter patterns, smaller numbers"


def _verdict(reason: str | None) -> Verdict:
    return Verdict(None if reason is None else f"cannot be compiled: {reason}")
