"""Virtual token counters: how much each key was served, and so whose turn it is."""

from __future__ import annotations

from collections import Counter, OrderedDict

#: A completion's token is a step of the whole model, a prompt's one a row of a large product.
COMPLETION_WEIGHT = 2

#: Keys with nothing in the queue or at the engine that are remembered all the same.
_MAX_RESTING = 256


class Service:
    """
    What each key was served in one tier: weighted tokens, while the tier is busy.

    A key that begins to wait is lifted to *credit* below the least served of those that wait. So
    nobody saves up more than that for later by staying away, and a key that asks for less than its
    share, of whom nothing waits most of the time, still goes before one that asks for more. What is
    remembered is bounded: all of it is forgotten when nobody has anything here, and a key that
    rests as soon as a lift would do as much for it.

    Args:
        credit: In weighted tokens.

    Source:
        Virtual token counter: Fairness in Serving Large Language Models, OSDI 2024,
        arXiv 2401.00588, algorithm 2, whose credit is 0.

    """

    def __init__(self, *, credit: int) -> None:
        self._credit = credit
        self._served: dict[int, int] = {}
        self._num_requests: Counter[int] = Counter()  # waiting or at the engine
        self._num_waiting: Counter[int] = Counter()
        self._resting: OrderedDict[int, None] = OrderedDict()
        self._last_to_leave: int | None = None
        self._left_at = 0  # what that one was served, where it is forgotten itself

    def of(self, key_id: int) -> int:
        """How much the key was served: tokens of prompts, and twice those of completions."""
        return self._served.get(key_id, 0)

    def __len__(self) -> int:
        """How many keys are remembered."""
        return len(self._served)

    def enter(self, key_id: int) -> None:
        """Let another request of the key wait."""
        self._resting.pop(key_id, None)
        if not self._num_waiting[key_id]:
            self._served[key_id] = max(self.of(key_id), self._lift())
        self._num_waiting[key_id] += 1
        self._num_requests[key_id] += 1

    def stop_waiting(self, key_id: int) -> None:
        """One of the key's requests waits no more: it has its turn, or has left."""
        _decrease(self._num_waiting, key_id)
        if not self._num_waiting[key_id]:
            self._last_to_leave, self._left_at = key_id, 0

    def end(self, key_id: int) -> None:
        """One of the key's requests has ended."""
        _decrease(self._num_requests, key_id)
        if not self._num_requests:
            self._served.clear()
            self._resting.clear()
            self._last_to_leave, self._left_at = None, 0
        elif not self._num_requests[key_id]:
            self._resting[key_id] = None
            self._forget_resting()

    def charge(self, key_id: int, amount: int) -> None:
        """Count service; a negative amount takes back what was not needed."""
        self._served[key_id] += amount

    def _lift(self) -> int:
        """What everybody is lifted to."""
        return self._least() - self._credit

    def _least(self) -> int:
        if self._num_waiting:
            return min(self._served[key_id] for key_id in self._num_waiting)
        return self._left_at if self._last_to_leave is None else self.of(self._last_to_leave)

    def _forget_resting(self) -> None:
        lift = self._lift()
        for key_id in [key_id for key_id in self._resting if self._served[key_id] <= lift]:
            self._forget(key_id)
        while len(self._resting) > _MAX_RESTING:
            self._forget(next(iter(self._resting)))

    def _forget(self, key_id: int) -> None:
        if key_id == self._last_to_leave:
            self._last_to_leave, self._left_at = None, self._served[key_id]
        del self._served[key_id]
        del self._resting[key_id]


def _decrease(counts: Counter[int], key_id: int) -> None:
    counts[key_id] -= 1
    if not counts[key_id]:
        del counts[key_id]
