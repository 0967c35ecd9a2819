"""The parent's side of a process that parses large bodies."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from typing import Self

from stillhouse.api.bodies.frames import RESULT_HEAD, Done, Work, job_frame, read_result
from stillhouse.errors import BodyTooLargeError, EngineUnavailableError

_WORKER = "stillhouse.api.bodies.worker"
_PIPE_BYTES = 1 << 20
#: A result is at most this many times as long as its body.
_MAX_RESULT_PER_BODY = 16
_MAX_START_BYTES = 1 << 20


class ChildDiedError(Exception):
    """The process died, but not of its body; another process may parse it."""


class BodyProcess:
    """
    One child process that runs ``stillhouse.api.bodies.worker``.

    Args:
        memory_mib: Memory it may use beyond that of its start.

    """

    def __init__(self, process: asyncio.subprocess.Process, memory_mib: int) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._stdin = process.stdin
        self._stdout = process.stdout
        self._memory_mib = memory_mib

    @classmethod
    async def spawn(cls, *, memory_mib: int, start_timeout_s: float) -> Self:
        """
        Starts the process without an environment or stderr, which could quote bodies.

        Raises:
            EngineUnavailableError: It cannot be run, or is not ready in time.

        """
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-m", _WORKER, str(os.getpid()), str(memory_mib)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                limit=_PIPE_BYTES,
                env={},
            )
        except OSError as error:
            raise EngineUnavailableError(
                f"No large request body can be parsed now: {error}."
            ) from error
        child = cls(process, memory_mib)
        try:
            async with asyncio.timeout(start_timeout_s):
                await child._result(_MAX_START_BYTES)
        except (TimeoutError, OSError, asyncio.IncompleteReadError) as error:
            child.kill()
            await child.wait()
            raise EngineUnavailableError(
                f"The process that parses large request bodies was not ready in "
                f"{start_timeout_s:g} s."
            ) from error
        except BaseException:
            child.kill()
            raise
        return child

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether the process can take a job, as far as is known."""
        return self._process.returncode is None and not self._stdout.at_eof()

    async def do(self, work: Work, body: bytes) -> Done:
        """
        Sends a body to the process and returns the result.

        Raises:
            ChildDiedError: The process was killed from outside, or had ended before.
            BodyTooLargeError: It takes more memory than the process may use.

        """
        try:
            self._stdin.write(job_frame(work, body))
            self._stdin.write(body)
            await self._stdin.drain()
            return await self._result(_MAX_START_BYTES + _MAX_RESULT_PER_BODY * work.max_bytes)
        except (OSError, asyncio.IncompleteReadError) as error:
            await self._raise_for_its_end(error)
            raise ChildDiedError from error

    def kill(self) -> None:
        """Kills the process at once; `wait` has to follow."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def wait(self) -> None:
        """Waits until the process has ended."""
        self._stdin.close()
        await self._process.wait()

    async def _result(self, max_bytes: int) -> Done:
        (num_bytes,) = RESULT_HEAD.unpack(await self._stdout.readexactly(RESULT_HEAD.size))
        if num_bytes > max_bytes:
            raise ChildDiedError
        return read_result(await self._stdout.readexactly(num_bytes))

    async def _raise_for_its_end(self, cause: Exception) -> None:
        """Raises if the process ran out of memory: its allocator aborts, which is no kill."""
        if await self._process.wait() in {-signal.SIGABRT, -signal.SIGSEGV}:
            raise BodyTooLargeError(
                f"The request body takes more than {self._memory_mib} MiB to parse; right would be "
                "a smaller one"
            ) from cause
