"""A fair budget: accounts take turns in acquiring parts of a bounded amount."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from dataclasses import dataclass

from stillhouse.errors import RateLimitError

_RETRY_AFTER_S = 1.0


@dataclass(frozen=True, slots=True)
class BudgetRules:
    """
    The size of a budget, and the bounds per account.

    Args:
        total: Most that all accounts hold at a time.
        per_account: Most that one account holds at a time.
        max_waiting: Most requests of one account that wait.
        max_wait_s: How long each may wait.

    """

    total: int
    per_account: int
    max_waiting: int
    max_wait_s: float


class FairBudget:
    """
    Grants parts of a budget to accounts in turn, and to none more than its share.

    Args:
        what: Names the budget in error texts, behind a number.

    """

    def __init__(self, rules: BudgetRules, *, what: str) -> None:
        self._rules = rules
        self._what = what
        self._free = rules.total
        self._taken: Counter[int] = Counter()  # by account
        self._waiting: OrderedDict[int, deque[_Waiter]] = OrderedDict()  # by account, next first
        self._is_short = False  # the next account waits for the budget, not for its share

    async def take(self, account_id: int, amount: int) -> int:
        """
        Acquires *amount*, or the account's whole share if that is less; `give_back` must follow.

        Returns:
            The amount acquired.

        Raises:
            RateLimitError: Too many requests of the account wait, or this one has waited too long.

        """
        amount = min(amount, self._rules.per_account)
        is_first = not self._is_short and account_id not in self._waiting
        if is_first and self._has_share(account_id, amount) and amount <= self._free:
            self._acquire(account_id, amount)
        else:
            await self._wait(account_id, amount)
        return amount

    def give_back(self, account_id: int, amount: int) -> None:
        """Returns what `take` acquired, and grants it to requests that wait."""
        self._free += amount
        self._taken[account_id] -= amount
        if not self._taken[account_id]:
            del self._taken[account_id]
        self._grant_waiting()

    def num_waiting(self, account_id: int) -> int:
        """Returns how many requests of the account wait."""
        return len(self._waiting.get(account_id, ()))

    async def _wait(self, account_id: int, amount: int) -> None:
        if (num_waiting := self.num_waiting(account_id)) >= self._rules.max_waiting:
            raise self._refusal(f"{num_waiting} requests of the account wait")
        waiter = _Waiter(amount, asyncio.get_running_loop().create_future())
        self._waiting.setdefault(account_id, deque()).append(waiter)
        self._grant_waiting()
        try:
            async with asyncio.timeout(self._rules.max_wait_s):
                await waiter.granted
        except TimeoutError as error:
            self._withdraw(account_id, waiter)
            waited = f"the request has waited for {self._rules.max_wait_s:g} s"
            raise self._refusal(waited) from error
        except BaseException:
            self._withdraw(account_id, waiter)
            raise

    def _withdraw(self, account_id: int, waiter: _Waiter) -> None:
        if waiter.is_granted:
            self.give_back(account_id, waiter.amount)
            return
        queue = self._waiting[account_id]
        queue.remove(waiter)
        if not queue:
            del self._waiting[account_id]
        self._grant_waiting()

    def _grant_waiting(self) -> None:
        """Grants one request of each account in turn, while one fits."""
        has_granted = True
        while has_granted:
            has_granted = False
            for account_id, queue in list(self._waiting.items()):
                amount = queue[0].amount
                if not self._has_share(account_id, amount):
                    continue
                self._is_short = amount > self._free
                if self._is_short:  # none overtakes, or a large request would wait for ever
                    return
                self._acquire(account_id, amount)
                queue.popleft().grant()
                self._waiting.move_to_end(account_id)
                if not queue:
                    del self._waiting[account_id]
                has_granted = True
        self._is_short = False

    def _has_share(self, account_id: int, amount: int) -> bool:
        return self._taken[account_id] + amount <= self._rules.per_account

    def _acquire(self, account_id: int, amount: int) -> None:
        self._free -= amount
        self._taken[account_id] += amount

    def _refusal(self, reason: str) -> RateLimitError:
        return RateLimitError(
            f"Rate limited: {reason} for {self._what}", retry_after_s=_RETRY_AFTER_S
        )


@dataclass(slots=True, eq=False)
class _Waiter:
    amount: int
    granted: asyncio.Future[None]
    is_granted: bool = False

    def grant(self) -> None:
        self.is_granted = True
        if not self.granted.done():  # a waiter cancelled in this step returns its part
            self.granted.set_result(None)
