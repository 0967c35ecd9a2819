"""A child process that compiles one grammar at a time, and how it can end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from stillhouse.errors import EngineUnavailableError
from stillhouse.settings import MIB
from stillhouse.text.grammar.config import GrammarsConfig

_WORKER = "stillhouse.text.grammar.worker"
_NICENESS = 10


class KilledError(Exception):
    """Somebody else has killed the process; the grammar may be good."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """
    What came of a grammar.

    Args:
        fault: Why it is no good, to be read after its name; None where it is good.
        ends_process: The process is dead, or has to be ended.

    """

    fault: str | None
    ends_process: bool = False


class GrammarProcess:
    """
    The parent's end of one ``stillhouse.text.grammar.worker``.

    Attributes:
        is_nice: It has what others leave of the processor.

    """

    def __init__(
        self, process: asyncio.subprocess.Process, limits: GrammarsConfig, *, is_nice: bool
    ) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._stdin = process.stdin
        self._stdout = process.stdout
        self._limits = limits
        self.is_nice = is_nice

    @classmethod
    async def spawn(cls, limits: GrammarsConfig, *, is_nice: bool = False) -> Self:
        """
        Start the process: with no environment, and no words of its own, as they quote grammars.

        Args:
            is_nice: It has what others leave of the processor.

        Raises:
            EngineUnavailableError: It cannot be run.

        """
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-m", _WORKER, str(os.getpid())),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env={},
            )
        except OSError as error:
            raise EngineUnavailableError(f"No grammar can be compiled now: {error}.") from error
        if is_nice:
            with contextlib.suppress(OSError):  # it is gone already, as will be found out
                os.setpriority(os.PRIO_PROCESS, process.pid, _NICENESS)
        return cls(process, limits, is_nice=is_nice)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    async def compile(self, grammar: str, tokenizer_json: Path | None) -> Verdict:
        """
        Compile *grammar* and compute its first mask, within the limits.

        Raises:
            KilledError: The process was killed by others.
            EngineUnavailableError: It could not load the tokenizer.

        """
        request = {
            "grammar": grammar,
            "tokenizer": tokenizer_json and str(tokenizer_json),
            "memory_bytes": self._limits.process_memory_mib * MIB,
        }
        self._stdin.write(json.dumps(request).encode() + b"\n")
        await self._loaded(tokenizer_json)
        try:
            async with asyncio.timeout(self._limits.timeout_s):
                answer = await self._answer()
        except TimeoutError:
            took = f"{self._limits.timeout_s:g} s"
            return Verdict(f"takes longer than {took} to compile; {_SIMPLER}", ends_process=True)
        if answer is not None:
            return _verdict(answer["reason"])
        await self._raise_if_killed()
        took = f"{self._limits.process_memory_mib} MiB"
        return Verdict(f"takes more than {took} to compile; {_SIMPLER}", ends_process=True)

    def kill(self) -> None:
        """End the process at once, whatever it does; `wait` has to follow."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def wait(self) -> None:
        """Return when the process is gone."""
        self._stdin.close()
        await self._process.wait()

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
                f"{self._process.returncode})."
            )

    async def _answer(self) -> dict[str, Any] | None:
        """The next line; None where there will be no more."""
        line = await self._stdout.readline()
        return json.loads(line) if line.endswith(b"\n") else None

    async def _raise_if_killed(self) -> None:
        if await self._process.wait() == -signal.SIGKILL:
            raise KilledError


_SIMPLER = "right would be a simpler one: fewer and shorter patterns, smaller numbers"


def _verdict(reason: str | None) -> Verdict:
    return Verdict(None if reason is None else f"cannot be compiled: {reason}")
