"""Runs long work of requests in threads, shared fairly between accounts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from stillhouse.clock import Clock
from stillhouse.fairness.semaphore import FairSemaphore, Permit

T = TypeVar("T")

_MAX_WAITING = 4000
_MAX_WAITING_PER_ACCOUNT = 1000


def _for_nothing(_seconds: float) -> None:
    """Charges no account."""


class FairThreadPool:
    """
    Runs work that would keep the event loop busy for too long, such as tokenising long prompts.

    Args:
        num_threads: Most work at once; one account uses at most all but one of them.

    """

    def __init__(self, num_threads: int, clock: Clock) -> None:
        self._slots = FairSemaphore(
            "prompts to be tokenised",
            max_running=num_threads,
            max_running_per_account=max(1, num_threads - 1),
            max_waiting=_MAX_WAITING,
            max_waiting_per_account=_MAX_WAITING_PER_ACCOUNT,
            clock=clock,
        )
        self._executor = ThreadPoolExecutor(num_threads, thread_name_prefix="host")

    async def run(
        self,
        work: Callable[[], T],
        *,
        account_id: int,
        key_id: int,
        charge: Callable[[float], None] = _for_nothing,
    ) -> T:
        """
        Runs *work* in a thread, and returns what it returns.

        Args:
            charge: Called with the seconds that the work took, also if it failed.

        Raises:
            OverloadedError: Too many wait, of this account or in all.

        """
        loop = asyncio.get_running_loop()
        permit: Permit | None = None
        try:
            async with self._slots.acquire(account_id, key_id) as permit:
                return await loop.run_in_executor(self._executor, work)
        finally:
            if permit is not None:
                charge(permit.held_s)
