"""The parent's side of a process that parses large bodies."""

from __future__ import annotations

import asyncio
import signal
from typing import Self

from stillhouse.api.bodies.frames import Done, Work, read_result, write_work
from stillhouse.errors import BodyTooLargeError, EngineUnavailableError
from stillhouse.workers.framing import MAX_FRAME_BYTES, FrameError
from stillhouse.workers.process import PipedWorker

_WORKER = "stillhouse.api.bodies.worker"
#: Behind engine and gateway: they serve all requests, and this process serves one.
_NICENESS = 10
#: A result is never more than this many times as long as its body.
_MAX_RESULT_PER_BODY = 16
_MAX_START_BYTES = 1 << 20


class ChildDiedError(Exception):
    """The process died, but not of its body; another process may parse it."""


class BodyProcess:
    """
    Parses one body at a time in a ``stillhouse.api.bodies.worker``.

    Args:
        memory_mib: What the worker may take beyond what it has when it starts.

    """

    def __init__(self, worker: PipedWorker, memory_mib: int) -> None:
        self._worker = worker
        self._memory_mib = memory_mib

    @classmethod
    async def spawn(cls, *, memory_mib: int, start_timeout_s: float) -> Self:
        """
        Starts the worker and waits until it is ready.

        Raises:
            EngineUnavailableError: It cannot be run, or is not ready in time.

        """
        try:
            worker = await PipedWorker.spawn(_WORKER, str(memory_mib), niceness=_NICENESS)
        except OSError as error:
            raise EngineUnavailableError(
                f"No large request body can be parsed now: {error}."
            ) from error
        child = cls(worker, memory_mib)
        try:
            async with asyncio.timeout(start_timeout_s):
                await child._result(_MAX_START_BYTES)
        except (TimeoutError, ChildDiedError) as error:
            worker.kill()
            await worker.wait()
            raise EngineUnavailableError(
                f"The process that parses large request bodies was not ready in "
                f"{start_timeout_s:g} s."
            ) from error
        except BaseException:
            worker.kill()
            raise
        return child

    @property
    def pid(self) -> int:
        """The process id."""
        return self._worker.pid

    @property
    def is_alive(self) -> bool:
        """Whether the worker can be given a body, as far as is known."""
        return self._worker.is_alive

    async def do(self, work: Work, body: bytes) -> Done:
        """
        Sends a body to the process and returns the result.

        Raises:
            ChildDiedError: The process was killed from outside, or had ended before.
            BodyTooLargeError: It takes more memory than the process may use.

        """
        try:
            await self._worker.send(write_work(work), body)
            return await self._result(_MAX_START_BYTES + _MAX_RESULT_PER_BODY * work.max_bytes)
        except (OSError, ChildDiedError) as error:
            await self._raise_if_out_of_memory(error)
            raise ChildDiedError from error

    def kill(self) -> None:
        """Kills the worker at once; `wait` has to follow."""
        self._worker.kill()

    async def wait(self) -> int:
        """Returns the exit code once the worker has ended."""
        return await self._worker.wait()

    async def _result(self, max_bytes: int) -> Done:
        try:
            frame = await self._worker.receive(max_bytes=min(max_bytes, MAX_FRAME_BYTES))
        except FrameError as error:
            self.kill()
            raise ChildDiedError from error
        if frame is None:
            raise ChildDiedError
        return read_result(frame)

    async def _raise_if_out_of_memory(self, cause: Exception) -> None:
        """Blames the body if the process aborted, as allocators do that are refused memory."""
        if await self._worker.wait() in {-signal.SIGABRT, -signal.SIGSEGV}:
            raise BodyTooLargeError(
                f"The request body takes more than {self._memory_mib} MiB to parse; right would be "
                "a smaller one"
            ) from cause
