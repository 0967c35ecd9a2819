"""One life of a worker: a child process and the socket to it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Self

from stillhouse.engines.frames import LENGTH_BYTES, ToGateway, ToWorker, body_length, encode
from stillhouse.engines.frames import decode_to_gateway as decode

if TYPE_CHECKING:
    from collections.abc import Sequence

_STDERR = 2


class WorkerProcess:
    """The gateway's end of the line to one worker."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer

    @classmethod
    async def spawn(cls, command: Sequence[str]) -> Self:
        """
        Run *command* with the number of its socket as last argument.

        What it prints goes to this process's standard error.

        Raises:
            OSError: It cannot be run.

        """
        ours, theirs = socket.socketpair()
        with contextlib.ExitStack() as on_failure:
            on_failure.callback(ours.close)
            with theirs:
                process = await asyncio.create_subprocess_exec(
                    *command,
                    str(theirs.fileno()),
                    pass_fds=[theirs.fileno()],
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=_STDERR,
                )
            reader, writer = await asyncio.open_unix_connection(sock=ours)
            on_failure.pop_all()
        return cls(process, reader, writer)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it lives; negative is the signal that killed it."""
        return self._process.returncode

    def send(self, message: ToWorker) -> None:
        """
        Hand *message* to the socket; a worker that is gone gets nothing.

        Raises:
            FrameError: The message cannot be framed.

        """
        frame = encode(message)
        if not self._writer.is_closing():
            self._writer.write(frame)

    async def receive(self) -> ToGateway | None:
        """
        Return the next message, or None when the worker is gone.

        Raises:
            FrameError: It sent what is no message.

        """
        try:
            prefix = await self._reader.readexactly(LENGTH_BYTES)
            return decode(await self._reader.readexactly(body_length(prefix)))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    async def stop(self, *, timeout_s: float) -> None:
        """Hang up, which ends a sound worker at once, and kill it after *timeout_s*."""
        self._writer.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), timeout_s)
        await self.kill()

    async def kill(self) -> None:
        """End it now; return when nothing of it is left."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        self._writer.close()
        await self._process.wait()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()
