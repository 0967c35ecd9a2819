"""Launches an engine worker: a child process and the socket to it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from typing import TYPE_CHECKING, Self

from stillhouse.engines.worker.frames import (
    MAX_FRAME_BYTES,
    ToGateway,
    ToWorker,
    encode,
)
from stillhouse.engines.worker.frames import decode_to_gateway as decode
from stillhouse.workers.framing import LENGTH_BYTES, FrameError, body_length

if TYPE_CHECKING:
    from collections.abc import Sequence

_STDERR = 2


class FrameReader(asyncio.Protocol):
    """
    Splits the bytes of a worker's socket into messages, for one reading task.

    Every wake-up of the reader brings all messages that are there. A reader that asked for each
    frame's length, and then for its body, would wait twice for what has long arrived.
    """

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._messages: deque[ToGateway] = deque()
        self._error: FrameError | None = None
        self._has_more: asyncio.Future[None] | None = None  # set while the reader waits
        self.is_closed = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        """Splits the received bytes, to the end of the last whole frame."""
        if self._error is not None:
            return
        self._bytes += data
        try:
            self._split()
        except FrameError as error:
            self._error = error
        self._wake()

    def connection_lost(self, _error: Exception | None) -> None:
        """Marks the end of the connection."""
        self.is_closed.set()
        self._wake()

    async def arrived(self) -> deque[ToGateway]:
        """
        Returns all unread messages, at least one; empty after the last.

        Raises:
            FrameError: The bytes after the last message are not a message.

        """
        while not self._messages:
            if self._error is not None:
                raise self._error
            if self.is_closed.is_set():
                break
            self._has_more = asyncio.get_running_loop().create_future()
            await self._has_more
        return self._messages

    def _split(self) -> None:
        begin = 0
        while (body := begin + LENGTH_BYTES) <= len(self._bytes):
            end = body + body_length(self._bytes[begin:body], max_bytes=MAX_FRAME_BYTES)
            if end > len(self._bytes):
                break
            self._messages.append(decode(self._bytes[body:end]))
            begin = end
        del self._bytes[:begin]

    def _wake(self) -> None:
        if self._has_more is not None and not self._has_more.done():
            self._has_more.set_result(None)


class WorkerProcess:
    """The gateway's connection to one worker process."""

    def __init__(
        self, process: asyncio.subprocess.Process, reader: FrameReader, transport: asyncio.Transport
    ) -> None:
        self._process = process
        self._reader = reader
        self._transport = transport

    @classmethod
    async def spawn(cls, command: Sequence[str]) -> Self:
        """
        Runs *command* with the number of its socket as last argument.

        Its output goes to this process's standard error.

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
            loop = asyncio.get_running_loop()
            transport, reader = await loop.create_unix_connection(FrameReader, sock=ours)
            on_failure.pop_all()
        return cls(process, reader, transport)

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
        Writes *message* to the socket; does nothing if the worker has ended.

        Raises:
            FrameError: The message cannot be framed.

        """
        frame = encode(message)
        if not self._transport.is_closing():
            self._transport.write(frame)

    async def receive(self) -> ToGateway | None:
        """
        Returns the next message, or None when the worker is gone.

        Raises:
            FrameError: It sent what is no message.

        """
        arrived = await self._reader.arrived()
        return arrived.popleft() if arrived else None

    async def receive_all(self) -> list[ToGateway]:
        """
        Returns all messages that are there, at least one; none when the worker is gone.

        Raises:
            FrameError: It sent what is no message; what came before is returned first.

        """
        arrived = await self._reader.arrived()
        messages = list(arrived)
        arrived.clear()
        return messages

    async def stop(self, *, timeout_s: float) -> None:
        """Hangs up, which ends a sound worker at once, and kills it after *timeout_s*."""
        self._transport.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), timeout_s)
        await self.kill()

    async def kill(self) -> None:
        """Kills the worker; returns when its process has ended."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        self._transport.close()
        await self._process.wait()
        await self._reader.is_closed.wait()
