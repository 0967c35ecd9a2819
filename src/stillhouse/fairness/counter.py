"""Counts the service that each account or key has had, to serve the least served one next."""

from __future__ import annotations

#: Owners without a request whose counters are kept.
_MAX_RESTING = 256


class VirtualTokenCounter:
    """
    Counts the service that each owner (an account, or a key of one) has had.

    An owner that begins to wait is lifted to *credit* below the least served of those that wait. So
    an idle owner saves up no more than that, and an owner that uses less than its share still goes
    before one that uses more. Memory is bounded: all counters are dropped when no owner has a
    request, and an idle owner's as soon as a lift would give it the same value.

    Args:
        credit: In the unit of the charges.
        max_resting: Most counters kept of owners without a request.

    Attributes:
        served: The counter of each owner. The caller may charge an owner that has a request by
            adding to it directly, which is the cheapest way for every token.

    Source:
        Virtual token counter: Fairness in Serving Large Language Models, OSDI 2024,
        arXiv 2401.00588, algorithm 2, whose credit is 0.

    """

    def __init__(self, *, credit: int, max_resting: int = _MAX_RESTING) -> None:
        self._credit = credit
        self._max_resting = max_resting
        self.served: dict[int, int] = {}
        self._num_requests: dict[int, int] = {}  # waiting or in flight
        self._num_waiting: dict[int, int] = {}
        self._resting: dict[int, None] = {}  # the first to rest first
        self._last_to_leave: int | None = None
        self._left_at = 0  # what that one was served, where it is forgotten itself

    def of(self, owner_id: int) -> int:
        """Returns how much the owner was served; 0 if it has no counter."""
        return self.served.get(owner_id, 0)

    def __len__(self) -> int:
        """Returns how many owners have a counter."""
        return len(self.served)

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits or is in flight."""
        return not self._num_requests

    def enter(self, owner_id: int) -> None:
        """Adds a waiting request of the owner."""
        self._resting.pop(owner_id, None)
        if owner_id not in self._num_waiting:
            self.served[owner_id] = max(self.of(owner_id), self._lift())
        self._num_waiting[owner_id] = self._num_waiting.get(owner_id, 0) + 1
        self._num_requests[owner_id] = self._num_requests.get(owner_id, 0) + 1

    def stop_waiting(self, owner_id: int) -> None:
        """Counts one waiting request less: it was dispatched, or has left."""
        if not _decrease(self._num_waiting, owner_id):
            self._last_to_leave, self._left_at = owner_id, 0

    def end(self, owner_id: int) -> None:
        """Counts one request less."""
        num_left = _decrease(self._num_requests, owner_id)
        if not self._num_requests:
            self.served.clear()
            self._resting.clear()
            self._last_to_leave, self._left_at = None, 0
        elif not num_left:
            self._resting[owner_id] = None
            self._forget_resting()

    def charge(self, owner_id: int, amount: int) -> None:
        """
        Counts service; a negative amount takes back what was not needed.

        An owner without a request is charged as well, as if it had just come. While no owner has
        a request, nothing is counted.
        """
        if owner_id in self.served:
            self.served[owner_id] += amount
        elif self._num_requests:
            self.served[owner_id] = max(0, self._lift()) + amount
            self._resting[owner_id] = None
            self._forget_resting()

    def _lift(self) -> int:
        """Returns the value that an owner which begins to wait is lifted to."""
        return self._least() - self._credit

    def _least(self) -> int:
        if self._num_waiting:
            return min(map(self.served.__getitem__, self._num_waiting))
        return self._left_at if self._last_to_leave is None else self.of(self._last_to_leave)

    def _forget_resting(self) -> None:
        lift, served = self._lift(), self.served
        for owner_id in [owner for owner in self._resting if served[owner] <= lift]:
            self._forget(owner_id)
        while len(self._resting) > self._max_resting:
            self._forget(next(iter(self._resting)))

    def _forget(self, owner_id: int) -> None:
        if owner_id == self._last_to_leave:
            self._last_to_leave, self._left_at = None, self.served[owner_id]
        del self.served[owner_id]
        del self._resting[owner_id]


def _decrease(counts: dict[int, int], owner_id: int) -> int:
    """Counts one less, and returns how many are left; a count of 0 is dropped."""
    num_left = counts[owner_id] - 1
    if num_left:
        counts[owner_id] = num_left
    else:
        del counts[owner_id]
    return num_left
