"""Keeps workers that serve one request at a time, and replaces those that were ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Generic, Protocol, TypeVar

from stillhouse.errors import EngineUnavailableError


class Worker(Protocol):
    """A child process that a pool can lend and end."""

    @property
    def pid(self) -> int:
        """The process id."""
        ...

    @property
    def is_alive(self) -> bool:
        """Whether it can be given a request, as far as is known."""
        ...

    def kill(self) -> None:
        """Kills the process at once; `wait` follows."""
        ...

    async def wait(self) -> int:
        """Returns the exit code once the process has ended."""
        ...


W = TypeVar("W", bound=Worker)


class WorkerPool(Generic[W]):
    """
    Lends each worker to one request at a time.

    Workers start when they are first needed. Callers bound the requests that run at once; the pool
    chooses the process that serves a request.

    Args:
        max_workers: Most workers; an idle one that does not fit a request makes room for one that
            does.
        closed: The message of the error that a closed pool raises.

    """

    def __init__(self, *, max_workers: int, closed: str) -> None:
        self._max_workers = max_workers
        self._closed = closed
        self._idle: list[W] = []
        self._alive: set[W] = set()
        self._ending: set[asyncio.Task[int]] = set()
        self._is_closed = False

    @property
    def pids(self) -> frozenset[int]:
        """The process ids of the workers that have not been ended."""
        return frozenset(worker.pid for worker in self._alive)

    @asynccontextmanager
    async def lend(
        self, spawn: Callable[[], Awaitable[W]], *, fits: Callable[[W], bool] = lambda _: True
    ) -> AsyncIterator[W]:
        """
        Lends a worker; the pool keeps it afterwards, unless the body raised or has ended it.

        A request that is cancelled ends its worker too, as nothing bounds how long it would go on.

        Args:
            spawn: Starts a worker where none is idle.
            fits: Whether an idle worker may serve this request.

        Raises:
            EngineUnavailableError: The pool is closed, or as *spawn* raises it.

        """
        worker = await self._take(spawn, fits)
        try:
            yield worker
        except BaseException:
            self.end(worker)
            raise
        if self._is_closed:
            self.end(worker)
        elif worker in self._alive:
            self._idle.append(worker)

    def end(self, worker: W) -> None:
        """Kills *worker*, which is replaced when it is next needed."""
        if worker not in self._alive:
            return
        self._alive.discard(worker)
        if worker in self._idle:
            self._idle.remove(worker)
        worker.kill()
        task = asyncio.create_task(worker.wait(), name="worker-ends")
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def close(self) -> None:
        """Ends all workers; requests that run fail."""
        self._is_closed = True
        for worker in list(self._alive):
            self.end(worker)
        await asyncio.gather(*self._ending)

    async def _take(self, spawn: Callable[[], Awaitable[W]], fits: Callable[[W], bool]) -> W:
        if self._is_closed:
            raise EngineUnavailableError(self._closed)
        for worker in reversed(list(self._idle)):
            if not worker.is_alive:
                self.end(worker)
            elif fits(worker):
                self._idle.remove(worker)
                return worker
        if len(self._alive) >= self._max_workers and self._idle:
            self.end(self._idle[0])
        worker = await spawn()
        self._alive.add(worker)
        if self._is_closed:
            self.end(worker)
            raise EngineUnavailableError(self._closed)
        return worker
