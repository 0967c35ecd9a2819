"""Bounds concurrent work on the host, such as compiling, and shares it fairly by account."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from stillhouse.clock import Clock
from stillhouse.errors import OverloadedError
from stillhouse.fairness.queue import FairQueue

_MICROSECONDS = 1_000_000
_RETRY_AFTER_S = 1.0
#: What a piece of work is charged in advance until the first ones have ended.
_FIRST_ESTIMATE_S = 0.01


class Permit:
    """
    One acquisition of the semaphore.

    Attributes:
        held_s: For how long it was held, in seconds; known once it is released.

    """

    def __init__(self, account_id: int, key_id: int) -> None:
        self.account_id = account_id
        self.key_id = key_id
        self.held_s = 0.0
        self.is_running = False
        self.charged_us = 0
        self.granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def grant(self, charged_us: int) -> None:
        """Wakes the task that waits for the permit."""
        self.is_running = True
        self.charged_us = charged_us
        if not self.granted.done():  # a cancelled waiter is about to release it
            self.granted.set_result(None)


class FairSemaphore:
    """
    Grants a bounded number of permits; the next goes to the account that has held them least.

    The seconds that a permit is held are charged to the account, and to the key inside it. Waiters
    are bounded in all and by account. Used by one event loop.

    Args:
        name: Completes the refusal "Too many requests wait for …".
        max_running: Most permits held at once.
        max_running_per_account: Most of one account, so that another one finds one free; None is
            *max_running*.
        max_waiting: Most waiters.
        max_waiting_per_account: Most waiters of one account.
        credit_s: How many seconds of service a returning account may be ahead of the others.
        num_reserved: How many permits are reserved for accounts that are not heavy.
        is_heavy: Whether an account has used much lately; evaluated when a permit comes free.

    """

    def __init__(  # noqa: PLR0913  (given once, by app/)
        self,
        name: str,
        *,
        max_running: int,
        max_waiting: int,
        max_waiting_per_account: int,
        clock: Clock,
        max_running_per_account: int | None = None,
        credit_s: float = 1.0,
        num_reserved: int = 0,
        is_heavy: Callable[[int], bool] | None = None,
    ) -> None:
        self._name = name
        self._max_running = max_running
        self._max_running_per_account = max_running_per_account or max_running
        self._max_waiting = max_waiting
        self._max_waiting_per_account = max_waiting_per_account
        self._clock = clock
        self._num_reserved = num_reserved
        self._is_heavy = is_heavy
        self._queue: FairQueue[Permit] = FairQueue(credit=_microseconds(credit_s))
        self._running: Counter[int] = Counter()  # by account
        self._num_running = 0
        self._usual_us = _microseconds(_FIRST_ESTIMATE_S)

    @property
    def num_running(self) -> int:
        """The number of permits held."""
        return self._num_running

    @property
    def num_waiting(self) -> int:
        """The number of waiters."""
        return len(self._queue)

    @property
    def num_remembered(self) -> int:
        """The number of counters kept; bounded."""
        return self._queue.num_remembered

    @asynccontextmanager
    async def acquire(self, account_id: int, key_id: int = 0) -> AsyncIterator[Permit]:
        """
        Holds a permit, granted in the fair order of accounts.

        Raises:
            OverloadedError: Too many wait already, of this account or in all.

        """
        permit = Permit(account_id, key_id)
        self._queue.push(permit)
        self._dispatch()
        if not permit.is_running:
            await self._wait(permit)
        started_s = self._clock.monotonic_s()
        try:
            yield permit
        finally:
            permit.held_s = self._clock.monotonic_s() - started_s
            self._learn(permit.held_s)
            self._release(permit, _microseconds(permit.held_s))

    async def _wait(self, permit: Permit) -> None:
        if (
            len(self._queue) > self._max_waiting
            or self._queue.num_waiting(permit.account_id) > self._max_waiting_per_account
        ):
            self._queue.remove(permit)
            raise OverloadedError(
                f"Too many requests wait for {self._name}, retry later",
                retry_after_s=_RETRY_AFTER_S,
            )
        try:
            await permit.granted
        except asyncio.CancelledError:
            if permit.is_running:
                self._release(permit, 0)
            else:
                self._queue.remove(permit)
            raise

    def _dispatch(self) -> None:
        while self._num_running < self._max_running:
            permit = self._queue.first(self._may_run)
            if permit is None:
                return
            self._queue.take(permit)
            self._running[permit.account_id] += 1
            self._num_running += 1
            # Charged in advance, or an account could fill all slots before its first has ended.
            self._queue.charge(permit.account_id, permit.key_id, self._usual_us)
            permit.grant(self._usual_us)

    def _may_run(self, account_id: int) -> bool:
        if self._running[account_id] >= self._max_running_per_account:
            return False
        has_more = self._max_running - self._num_running > self._num_reserved
        return has_more or self._is_heavy is None or not self._is_heavy(account_id)

    def _release(self, permit: Permit, held_us: int) -> None:
        self._queue.charge(permit.account_id, permit.key_id, held_us - permit.charged_us)
        self._queue.end(permit)
        self._num_running -= 1
        self._running[permit.account_id] -= 1
        if not self._running[permit.account_id]:
            del self._running[permit.account_id]
        self._dispatch()

    def _learn(self, held_s: float) -> None:
        self._usual_us += (_microseconds(held_s) - self._usual_us) // 8


def _microseconds(seconds: float) -> int:
    return round(seconds * _MICROSECONDS)
