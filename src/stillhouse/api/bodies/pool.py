"""Parses large bodies in child processes: in this one they would delay every stream."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from functools import partial
from typing import Any

from stillhouse.api.bodies.child import BodyProcess, ChildDiedError
from stillhouse.api.bodies.frames import Done, Work
from stillhouse.clock import Clock
from stillhouse.errors import BodyTooLargeError, EngineUnavailableError
from stillhouse.fairness.semaphore import FairSemaphore
from stillhouse.workers.pool import WorkerPool

_TRIES = 2


@dataclass(frozen=True, slots=True)
class PoolRules:
    """
    Bounds on the processes that parse bodies.

    Args:
        num_processes: Most bodies parsed at once; one account may have all of them but one.
        timeout_s: Longest time for one body.
        start_timeout_s: Longest time for the start of a process.
        memory_mib: Memory of each process beyond that of its start, by `RLIMIT_AS`.
        max_waiting: Most bodies that wait for a process.
        max_waiting_per_account: Most bodies of one account that wait.

    """

    num_processes: int = 2
    timeout_s: float = 30
    start_timeout_s: float = 60
    memory_mib: int = 512
    max_waiting: int = 2000
    max_waiting_per_account: int = 500


class BodyPool:
    """
    Parses bodies in child processes, for accounts in turn.

    A body of 8 MiB takes 20 to 120 ms to parse, most of it in one call that holds the interpreter
    lock. Children start when they are first needed and end with this process. They get nothing but
    bodies: no environment, no sockets.
    """

    def __init__(self, rules: PoolRules, clock: Clock) -> None:
        self._rules = rules
        self._slots = FairSemaphore(
            "large request bodies to be read",
            max_running=rules.num_processes,
            max_running_per_account=max(1, rules.num_processes - 1),
            max_waiting=rules.max_waiting,
            max_waiting_per_account=rules.max_waiting_per_account,
            clock=clock,
        )
        self._workers = WorkerPool[BodyProcess](
            max_workers=rules.num_processes, closed="The server is shutting down."
        )

    @property
    def worker_pids(self) -> frozenset[int]:
        """The process ids of the children that have not been ended."""
        return self._workers.pids

    async def read(self, account_id: int, work: Work, body: bytes, *, key_id: int = 0) -> Any:
        """
        Parses *body* in a child process.

        Raises:
            OverloadedError: Too many bodies of this account, or in all, wait.
            BodyTooLargeError: Parsing takes too much time or memory.
            EngineUnavailableError: The pool is closed, or its processes keep dying.

        """
        async with self._slots.acquire(account_id, key_id):
            done = await self._do(work, body)
        return done.result()

    async def close(self) -> None:
        """Ends all children; bodies that are being parsed fail."""
        await self._workers.close()

    async def _do(self, work: Work, body: bytes) -> Done:
        spawn = partial(
            BodyProcess.spawn,
            memory_mib=self._rules.memory_mib,
            start_timeout_s=self._rules.start_timeout_s,
        )
        for _ in range(_TRIES):  # a worker that was killed from outside is replaced
            with contextlib.suppress(ChildDiedError):
                async with self._workers.lend(spawn) as worker:
                    return await self._do_in_time(worker, work, body)
        raise EngineUnavailableError("The processes that parse large request bodies keep dying.")

    async def _do_in_time(self, worker: BodyProcess, work: Work, body: bytes) -> Done:
        try:
            async with asyncio.timeout(self._rules.timeout_s):
                return await worker.do(work, body)
        except TimeoutError as error:
            raise BodyTooLargeError(
                f"The request body takes longer than {self._rules.timeout_s:g} s to parse; "
                "right would be a smaller one"
            ) from error
