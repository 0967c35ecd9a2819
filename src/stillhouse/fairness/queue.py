"""Queues items fairly on two levels: the least served account, then its least served key."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from stillhouse.fairness.counter import VirtualTokenCounter

#: Most counters of idle keys kept for each account that has a request.
_MAX_RESTING_KEYS = 32


class Owned(Protocol):
    """An item of an account and of one of its keys."""

    @property
    def account_id(self) -> int:
        """The account that is served."""
        ...

    @property
    def key_id(self) -> int:
        """Its API key."""
        ...


T = TypeVar("T", bound=Owned)


class FairQueue(Generic[T]):
    """
    Orders items by the service of their accounts, and inside an account by that of its keys.

    An account's share does not depend on how many keys it has. Items of one key keep their order.
    `first` looks at each waiting account and at each waiting key of one account.

    Args:
        credit: How far an account, or a key in it, may be ahead of the others when it comes back;
            in the unit of the charges.

    """

    def __init__(self, *, credit: int) -> None:
        self._credit = credit
        self._counter = VirtualTokenCounter(credit=credit)
        # Both in the order in which they began.
        self._present: dict[int, _Account[T]] = {}  # with something waiting or in flight
        self._waiting: dict[int, _Account[T]] = {}
        self._num_waiting = 0

    def __len__(self) -> int:
        """Returns how many items wait."""
        return self._num_waiting

    def num_waiting(self, account_id: int) -> int:
        """Returns how many items of an account wait."""
        account = self._waiting.get(account_id)
        return account.num_waiting if account else 0

    def push(self, item: T, *, at_front: bool = False) -> None:
        """Appends an item behind those of its key, or before them."""
        account = self._present.get(item.account_id)
        if account is None:
            account = self._present[item.account_id] = _Account(credit=self._credit)
        self._waiting.setdefault(item.account_id, account)
        self._num_waiting += 1
        self._counter.enter(item.account_id)
        account.push(item, at_front=at_front)

    def first(self, may_go: Callable[[int], bool] | None = None) -> T | None:
        """
        Returns the next item without taking it.

        Args:
            may_go: Selects the accounts to look at; None selects all.

        """
        accounts = self._waiting if may_go is None else filter(may_go, self._waiting)
        # Of accounts that were served the same, the one that began to wait first.
        account_id = min(accounts, key=self._counter.served.__getitem__, default=None)
        return None if account_id is None else self._waiting[account_id].first()

    def take(self, item: T) -> None:
        """Dispatches an item that waits: it is in flight until `end`."""
        account = self._waiting[item.account_id]
        account.take(item)
        if not account.num_waiting:
            del self._waiting[item.account_id]
        self._num_waiting -= 1
        self._counter.stop_waiting(item.account_id)

    def remove(self, item: T) -> None:
        """Removes a waiting item, which was not served."""
        self.take(item)
        self.end(item)

    def end(self, item: T) -> None:
        """Ends an item that was dispatched."""
        account = self._present[item.account_id]
        account.keys.end(item.key_id)
        if account.keys.is_idle:
            del self._present[item.account_id]
        self._counter.end(item.account_id)

    def charge_item(self, item: T, amount: int) -> None:
        """Counts service of an item in flight."""
        account_id = item.account_id
        self._counter.served[account_id] += amount
        self._present[account_id].keys.served[item.key_id] += amount

    def charge(self, account_id: int, key_id: int, amount: int) -> None:
        """Counts service of an account, even without an item; a negative amount takes it back."""
        self._counter.charge(account_id, amount)
        account = self._present.get(account_id)
        if account is not None:
            account.keys.charge(key_id, amount)

    def served(self, account_id: int) -> int:
        """Returns how much an account was served while the queue has been busy."""
        return self._counter.of(account_id)

    def served_key(self, account_id: int, key_id: int) -> int:
        """Returns how much a key was served while its account has been busy."""
        account = self._present.get(account_id)
        return account.keys.of(key_id) if account else 0

    @property
    def num_remembered(self) -> int:
        """The number of counters of accounts and keys."""
        return len(self._counter) + sum(len(account.keys) for account in self._present.values())


class _Account(Generic[T]):
    """One account's part of the queue: the waiting items of each of its keys."""

    def __init__(self, *, credit: int) -> None:
        self.keys = VirtualTokenCounter(credit=credit, max_resting=_MAX_RESTING_KEYS)
        self.num_waiting = 0
        self._waiting: dict[int, deque[T]] = {}

    def push(self, item: T, *, at_front: bool) -> None:
        items = self._waiting.setdefault(item.key_id, deque())
        if at_front:
            items.appendleft(item)
        else:
            items.append(item)
        self.num_waiting += 1
        self.keys.enter(item.key_id)

    def first(self) -> T:
        return self._waiting[min(self._waiting, key=self.keys.served.__getitem__)][0]

    def take(self, item: T) -> None:
        items = self._waiting[item.key_id]
        items.remove(item)
        if not items:
            del self._waiting[item.key_id]
        self.num_waiting -= 1
        self.keys.stop_waiting(item.key_id)
