"""Slots for work on the host, such as compiling and parsing, shared fairly between accounts."""

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
#: What a piece of work is charged before it has ended, until the first few have.
_FIRST_GUESS_S = 0.01


class Permit:
    """
    One piece of work: it waits, runs, and is over.

    Attributes:
        held_s: For how long it ran, in seconds; known once it is over.

    """

    def __init__(self, account_id: int, key_id: int) -> None:
        self.account_id = account_id
        self.key_id = key_id
        self.held_s = 0.0
        self.is_running = False
        self.charged_us = 0
        self.granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def grant(self, charged_us: int) -> None:
        """Let it run."""
        self.is_running = True
        self.charged_us = charged_us
        if not self.granted.done():  # or it was cancelled, and is about to give the slot back
            self.granted.set_result(None)


class FairSemaphore:
    """
    Runs a bounded amount of work at once; next is a piece of the account that had least of it.

    Seconds that a slot is held are charged to the account, and to the key inside it. What waits is
    bounded in all and by account. Used by one event loop.

    Args:
        name: What the slots are for, as a refusal says it: "compiling schemas".
        max_running: Slots.
        max_running_per_account: Of one account, so that another one finds a slot free; None is as
            many as there are.
        max_waiting: Most pieces of work that wait.
        max_waiting_per_account: Of one account.
        credit_s: How many seconds of service an account that comes back may be ahead of the others.
        num_reserved: How many of the slots are kept free of accounts that *is_heavy*.
        is_heavy: Says of an account, when a slot comes free, whether it has had much lately.

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
        self._usual_us = _microseconds(_FIRST_GUESS_S)

    @property
    def num_running(self) -> int:
        """How many slots are held."""
        return self._num_running

    @property
    def num_waiting(self) -> int:
        """How much work waits for a slot."""
        return len(self._queue)

    @property
    def num_remembered(self) -> int:
        """How many counters are kept; bounded."""
        return self._queue.num_remembered

    @asynccontextmanager
    async def acquire(self, account_id: int, key_id: int = 0) -> AsyncIterator[Permit]:
        """
        Hold a slot, once it is this account's turn.

        Raises:
            OverloadedError: Too much waits already, of this account or in all.

        """
        slot = Permit(account_id, key_id)
        self._queue.push(slot)
        self._dispatch()
        if not slot.is_running:
            await self._wait(slot)
        started_s = self._clock.monotonic_s()
        try:
            yield slot
        finally:
            slot.held_s = self._clock.monotonic_s() - started_s
            self._learn(slot.held_s)
            self._release(slot, _microseconds(slot.held_s))

    async def _wait(self, slot: Permit) -> None:
        if (
            len(self._queue) > self._max_waiting
            or self._queue.num_waiting(slot.account_id) > self._max_waiting_per_account
        ):
            self._queue.remove(slot)
            raise OverloadedError(
                f"Too many requests wait for {self._name}, retry later",
                retry_after_s=_RETRY_AFTER_S,
            )
        try:
            await slot.granted
        except asyncio.CancelledError:
            if slot.is_running:
                self._release(slot, 0)
            else:
                self._queue.remove(slot)
            raise

    def _dispatch(self) -> None:
        while self._num_running < self._max_running:
            slot = self._queue.first(self._may_run)
            if slot is None:
                return
            self._queue.take(slot)
            self._running[slot.account_id] += 1
            self._num_running += 1
            # Charged in advance, or an account could fill all slots before its first has ended.
            self._queue.charge(slot.account_id, slot.key_id, self._usual_us)
            slot.grant(self._usual_us)

    def _may_run(self, account_id: int) -> bool:
        if self._running[account_id] >= self._max_running_per_account:
            return False
        has_more = self._max_running - self._num_running > self._num_reserved
        return has_more or self._is_heavy is None or not self._is_heavy(account_id)

    def _release(self, slot: Permit, held_us: int) -> None:
        self._queue.charge(slot.account_id, slot.key_id, held_us - slot.charged_us)
        self._queue.end(slot)
        self._num_running -= 1
        self._running[slot.account_id] -= 1
        if not self._running[slot.account_id]:
            del self._running[slot.account_id]
        self._dispatch()

    def _learn(self, held_s: float) -> None:
        self._usual_us += (_microseconds(held_s) - self._usual_us) // 8


def _microseconds(seconds: float) -> int:
    return round(seconds * _MICROSECONDS)
