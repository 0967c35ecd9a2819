"""Bounds failed authentications, by client address and by the key that a token names."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from ipaddress import IPv6Address, ip_address

import structlog

from stillhouse.clock import Clock
from stillhouse.errors import AuthenticationError, RateLimitError
from stillhouse.fairness.token_bucket import TokenBucket

log = structlog.get_logger()

#: The most addresses and keys that are remembered; the oldest failures are forgotten first.
MAX_ENTRIES = 10_000

#: The smallest IPv6 network that one subscriber has (RFC 6177).
_IPV6_PREFIX_BITS = 64


class AuthFailures:
    """
    Counts the failed authentications that cost a query or a signature check.

    Failures of others lock no key out: a failure beyond the bound is answered with 429 instead of
    401, and without a query. Valid keys and tokens are always accepted.

    Args:
        per_minute: The rate of one address, and of one key's tokens; a burst may have this many
            too.

    """

    def __init__(self, per_minute: int, clock: Clock) -> None:
        self._clock = clock
        self._per_minute = per_minute
        self._by_address = _Buckets(per_minute)
        self._by_key = _Buckets(per_minute)

    def is_over(self, address: str) -> bool:
        """Returns whether an address has used up its failures."""
        return self._by_address.wait_s(_network(address), self._clock.monotonic_s()) > 0

    def refusal(self, address: str) -> RateLimitError:
        """Returns the error for an address that is over its bound."""
        wait_s = self._by_address.wait_s(_network(address), self._clock.monotonic_s())
        return self._too_many("from this address", wait_s)

    def count(
        self, error: AuthenticationError, address: str, *, key_id: int | None = None
    ) -> AuthenticationError | RateLimitError:
        """
        Counts one failure, and returns the error to answer with.

        Args:
            key_id: The key that a forged token names.

        """
        now_s = self._clock.monotonic_s()
        wait_s = self._by_address.take(_network(address), now_s)
        if wait_s > 0:
            return self._too_many("from this address", wait_s)
        if key_id is None:
            return error
        was_over = self._by_key.wait_s(key_id, now_s) > 0
        self._by_key.take(key_id, now_s)
        wait_s = self._by_key.wait_s(key_id, now_s)
        if wait_s > 0 and not was_over:
            log.warning("forged_tokens_over_bound", key_id=key_id)
        return self._too_many("with tokens of this API key", wait_s) if was_over else error

    def _too_many(self, where: str, wait_s: float) -> RateLimitError:
        return RateLimitError(
            f"Too many failed authentications {where}: more than {self._per_minute} a minute. "
            "Correct the API key or token first.",
            retry_after_s=max(wait_s, 1.0),
        )


class _Buckets:
    """Holds a token bucket for each address or key that failed last."""

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._buckets: OrderedDict[Hashable, TokenBucket] = OrderedDict()

    def wait_s(self, holder: Hashable, now_s: float) -> float:
        """Returns the seconds until the holder's bucket has one more; 0 if it has one."""
        bucket = self._buckets.get(holder)
        return bucket.wait_s(now_s) if bucket else 0.0

    def take(self, holder: Hashable, now_s: float) -> float:
        """Takes one from the bucket if it has one; returns what `wait_s` returned before."""
        wait_s = self.wait_s(holder, now_s)
        if wait_s == 0:
            if holder not in self._buckets:
                self._buckets[holder] = TokenBucket.per_minute(self._per_minute)
            self._buckets[holder].take(1, now_s)
        self._buckets.move_to_end(holder)
        while len(self._buckets) > MAX_ENTRIES:
            self._buckets.popitem(last=False)
        return wait_s


def _network(address: str) -> Hashable:
    """Returns the network that one client has to itself: an IPv4 address, or an IPv6 /64."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is not None:
            return int(parsed.ipv4_mapped)
        return 6, int(parsed) >> _IPV6_PREFIX_BITS
    return int(parsed)
