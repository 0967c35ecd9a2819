"""Bounds the bytes of request bodies per account: in flight, and per minute."""

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

#: Smaller bodies are parsed on the event loop, which takes 3 ms at worst.
SMALL_BYTES = 64 << 10
#: Accounts whose buckets are checked for removal after each body.
_NUM_SWEPT = 2
_MINUTE_S = 60.0


@dataclass(frozen=True, slots=True)
class BodyRules:
    """
    Bounds on request bodies.

    Args:
        max_bytes: Most bytes of one body, compressed or not.
        max_bytes_in_flight: Most bytes of all large bodies that are read, parsed or tokenised.
        max_bytes_in_flight_per_account: The same of one account.
        bytes_per_minute: Most bytes of one account per minute, refused requests included.
        burst_bytes: Most bytes of one account's large bodies at once, beyond that rate. At least
        `max_bytes`.
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
    """Admits bodies per account before they are read; a small one never waits."""

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
        self._rates: OrderedDict[int, _Rates] = OrderedDict()  # of accounts that used some lately

    def intake(self, account_id: int, *, declared_bytes: int | None) -> BodyIntake:
        """Returns the intake of one body; it has to be closed."""
        return BodyIntake(self, account_id, declared_bytes)

    # The methods below are for intakes.

    def refuse_too_much(self, account_id: int) -> None:
        """
        Refuses a body if small bodies of the account have used up its rate.

        Raises:
            RateLimitError: They have.

        """
        rates = self._rates.get(account_id)
        if rates and (wait_s := rates.small.wait_s(self._clock.monotonic_s())):
            raise self._refusal(wait_s)

    async def take(self, account_id: int, num_bytes: int) -> int:
        """
        Waits until the account's rate allows this many bytes, and then for its share.

        Returns:
            The bytes taken from the share.

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
        """Returns bytes to the share, and unused ones to the rate."""
        self._in_flight.give_back(account_id, taken)
        self._rates_of(account_id).large.refund(num_buffered)

    def count_small(self, account_id: int, num_bytes: int) -> None:
        """Counts a small body that was read, also if its request is refused."""
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
    """The rate of one account: a bucket for small bodies, and one for large ones."""

    small: TokenBucket
    large: TokenBucket

    def is_at_rest(self, now_s: float) -> bool:
        return self.small.is_full(now_s) and self.large.is_full(now_s)


class BodyIntake:
    """
    One body while it is received: a large one first reserves a part of the account's share.

    A context manager; on exit the body has left memory, or is about to.

    Args:
        declared_bytes: Its Content-Length; None if it is unknown, or the body is compressed.

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
        Waits until a body that declares itself large may be read.

        Raises:
            RateLimitError: The account sends too much, at once or per minute.

        """
        self._admission.refuse_too_much(self._account_id)
        if self._declared_bytes is not None and self._declared_bytes > SMALL_BYTES:
            await self._take(self._declared_bytes)

    async def on_received(self, num_bytes: int) -> None:
        """
        Counts *num_bytes* received in all; a body that turns out to be large waits here.

        Raises:
            RateLimitError: The account sends too much, at once or per minute.

        """
        self._num_read = num_bytes
        if num_bytes > SMALL_BYTES and not self._taken:
            await self._take(self._admission.rules.max_bytes)

    async def reserve_for_unpacking(self) -> None:
        """
        Reserves the most a body may have, for a small one that is large when decompressed.

        Raises:
            RateLimitError: The account sends too much, at once or per minute.

        """
        self._num_read = max(self._num_read, self._admission.rules.max_bytes)
        if not self._taken:
            await self._take(self._admission.rules.max_bytes)

    async def _take(self, num_bytes: int) -> None:
        num_bytes = min(num_bytes, self._admission.rules.max_bytes)
        self._taken = await self._admission.take(self._account_id, num_bytes)
        self._reserved = num_bytes
