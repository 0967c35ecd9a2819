"""Launches a worker that answers requests on its standard streams."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from typing import Self

from stillhouse.workers.framing import LENGTH_BYTES, body_length, frame_length

_BUFFER_BYTES = 1 << 20


class PipedWorker:
    """The parent's end of a worker: frames to its standard input, frames from its output."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._stdin = process.stdin
        self._stdout = process.stdout

    @classmethod
    async def spawn(cls, module: str, *arguments: str, niceness: int = 0) -> Self:
        """
        Runs ``python -I -m module PARENT arguments``, PARENT being this process's id.

        The worker has an empty environment, no sockets, and no standard error, which would
        quote customers' prompts.

        Args:
            niceness: Added to the worker's own; above 0 it runs behind other processes.

        Raises:
            OSError: The worker cannot be run.

        """
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-m", module, str(os.getpid()), *arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            limit=_BUFFER_BYTES,
            env={},
        )
        if niceness:
            with contextlib.suppress(OSError):  # it has ended, which its first use finds out
                os.setpriority(os.PRIO_PROCESS, process.pid, niceness)
        return cls(process)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether the worker can be given a request, as far as is known."""
        return self._process.returncode is None and not self._stdout.at_eof()

    async def send(self, *bodies: bytes) -> None:
        """
        Sends each of *bodies* as one frame.

        Raises:
            OSError: The worker is gone.
            FrameError: A body is too large for a frame.

        """
        for body in bodies:
            self._stdin.write(frame_length(len(body)))
            self._stdin.write(body)
        await self._stdin.drain()

    async def receive(self, *, max_bytes: int) -> bytes | None:
        """
        Returns the body of the next frame; None where the worker has ended.

        Raises:
            FrameError: The body would have more than *max_bytes*.

        """
        try:
            prefix = await self._stdout.readexactly(LENGTH_BYTES)
            return await self._stdout.readexactly(body_length(prefix, max_bytes=max_bytes))
        except (OSError, asyncio.IncompleteReadError):
            return None

    def kill(self) -> None:
        """Kills the worker at once; `wait` has to follow."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def wait(self) -> int:
        """Returns the exit code once the worker has ended; a signal that killed it is negative."""
        self._stdin.close()
        return await self._process.wait()
