"""How many bytes of request bodies an account may bring at once, and how fast."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from itertools import islice
from typing import Self

from stillhouse.api.bodies.budget import BudgetRules, FairBudget
from stillhouse.clock import Clock
from stillhouse.errors import RateLimitError
from stillhouse.fairness.token_bucket import TokenBucket
from stillhouse.settings import MIB

#: Read and parsed where it comes in, whoever sends it: that takes 3 ms at worst.
SMALL_BYTES = 64 << 10
#: Accounts that are looked at for being at rest, whenever a body has come in.
_NUM_SWEPT = 2
_MINUTE_S = 60.0


@dataclass(frozen=True, slots=True)
class BodyRules:
    """
    How much of bodies there may be.

    Args:
        max_bytes: Of one body, packed or unpacked.
        max_bytes_in_flight: Of all large ones that are read, parsed or tokenised.
        max_bytes_in_flight_per_account: The same of one account.
        bytes_per_minute: Of one account; counted for refused requests as well.
        burst_bytes: Of one account's large bodies that come at once; the others are read at that
            rate. At least `max_bytes`.
        max_waiting: Most large bodies of one account that wait for its share.
        max_wait_s: How long each may wait for its share, and for the account's rate.

    """

    max_bytes: int = 8 * MIB
    max_bytes_in_flight: int = 128 * MIB
    max_bytes_in_flight_per_account: int = 32 * MIB
    bytes_per_minute: int = 512 * MIB
    burst_bytes: int = 16 * MIB
    max_waiting: int = 200
    max_wait_s: float = 30


class BodyAdmission:
    """Lets bodies in, account by account, before they are read; a small one never waits."""

    def __init__(self, rules: BodyRules, clock: Clock) -> None:
        self.rules = rules
        self._clock = clock
        self._in_flight = FairBudget(
            BudgetRules(
                total=rules.max_bytes_in_flight,
                per_account=rules.max_bytes_in_flight_per_account,
                max_waiting=rules.max_waiting,
                max_wait_s=rules.max_wait_s,
            ),
            what="its body to be read",
        )
        self._rates: OrderedDict[int, _Rates] = OrderedDict()  # of accounts not at rest

    def intake(self, account_id: int, *, declared_bytes: int | None) -> BodyIntake:
        """What one body is read through, which has to be closed."""
        return BodyIntake(self, account_id, declared_bytes)

    # What follows is between the admission and its intakes.

    def refuse_too_much(self, account_id: int) -> None:
        """
        Refuse whoever has used up the minute with small bodies.

        Raises:
            RateLimitError: The account has.

        """
        rates = self._rates.get(account_id)
        if rates and (wait_s := rates.small.wait_s(self._clock.monotonic_s())):
            raise self._refusal(wait_s)

    async def take(self, account_id: int, num_bytes: int) -> int:
        """
        Wait until the account's rate allows this many bytes, and then for its share.

        Returns:
            What was taken of the share.

        Raises:
            RateLimitError: That takes too long.

        """
        pace = self._rates_of(account_id).large
        now_s = self._clock.monotonic_s()
        wait_s = pace.wait_s(now_s, num_bytes)
        if wait_s > self.rules.max_wait_s:
            raise self._refusal(wait_s)
        pace.take(num_bytes, now_s)
        try:
            await asyncio.sleep(wait_s)
            return await self._in_flight.take(account_id, num_bytes)
        except BaseException:
            pace.refund(num_bytes)
            raise

    def give_back(self, account_id: int, taken: int, *, num_buffered: int) -> None:
        """Give back what `take` has taken, and what was not needed of the rate."""
        self._in_flight.give_back(account_id, taken)
        self._rates_of(account_id).large.refund(num_buffered)

    def count_small(self, account_id: int, num_bytes: int) -> None:
        """Count a small body that was read, whatever becomes of it."""
        now_s = self._clock.monotonic_s()
        self._rates_of(account_id).small.take(num_bytes, now_s)
        for other_id in list(islice(self._rates, _NUM_SWEPT)):
            if self._rates[other_id].is_at_rest(now_s):
                del self._rates[other_id]
            else:
                self._rates.move_to_end(other_id)

    def _rates_of(self, account_id: int) -> _Rates:
        rates = self._rates.get(account_id)
        if rates is None:
            per_minute = self.rules.bytes_per_minute
            rates = self._rates[account_id] = _Rates(
                TokenBucket.per_minute(per_minute),
                TokenBucket(per_minute / _MINUTE_S, self.rules.burst_bytes),
            )
        return rates

    def _refusal(self, wait_s: float) -> RateLimitError:
        per_minute = self.rules.bytes_per_minute / MIB
        return RateLimitError(
            f"Rate limited: {per_minute:g} MiB of request bodies per minute", retry_after_s=wait_s
        )


@dataclass(frozen=True, slots=True)
class _Rates:
    """What is left of one account's minute."""

    small: TokenBucket
    large: TokenBucket

    def is_at_rest(self, now_s: float) -> bool:
        return self.small.is_full(now_s) and self.large.is_full(now_s)


class BodyIntake:
    """
    One body on its way in: a large one takes its part of the account's share first.

    A context manager: with its exit the body is out of memory, or soon will be.

    Args:
        declared_bytes: What the request says of its length; None: nothing that tells how much
            memory it will take.

    """

    def __init__(
        self, admission: BodyAdmission, account_id: int, declared_bytes: int | None
    ) -> None:
        self._admission = admission
        self._account_id = account_id
        self._declared_bytes = declared_bytes
        self._reserved = 0  # of the account's rate
        self._taken = 0  # of its share
        self._num_read = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._taken:
            num_buffered = max(0, self._reserved - self._num_read)
            self._admission.give_back(self._account_id, self._taken, num_buffered=num_buffered)
        elif self._num_read:
            self._admission.count_small(self._account_id, self._num_read)

    async def begin(self) -> None:
        """
        Wait until the body may be read, where it says that it is large.

        Raises:
            RateLimitError: The account brings too much, at once or per minute.

        """
        self._admission.refuse_too_much(self._account_id)
        if self._declared_bytes is not None and self._declared_bytes > SMALL_BYTES:
            await self._take(self._declared_bytes)

    async def on_received(self, num_bytes: int) -> None:
        """
        Go on after *num_bytes* in all have come; a body that turns out to be large waits here.

        Raises:
            RateLimitError: The account brings too much, at once or per minute.

        """
        self._num_read = num_bytes
        if num_bytes > SMALL_BYTES and not self._taken:
            await self._take(self._admission.rules.max_bytes)

    async def reserve_for_unpacking(self) -> None:
        """
        Take all that a body may have, for what is large unpacked, if not on the wire.

        Raises:
            RateLimitError: The account brings too much, at once or per minute.

        """
        self._num_read = max(self._num_read, self._admission.rules.max_bytes)
        if not self._taken:
            await self._take(self._admission.rules.max_bytes)

    async def _take(self, num_bytes: int) -> None:
        num_bytes = min(num_bytes, self._admission.rules.max_bytes)
        self._taken = await self._admission.take(self._account_id, num_bytes)
        self._reserved = num_bytes
