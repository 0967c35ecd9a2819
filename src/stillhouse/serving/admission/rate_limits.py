"""Limits the requests in flight and the rates of each account and key, for each model."""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass
from itertools import islice

from stillhouse.clock import Clock
from stillhouse.errors import RateLimitError
from stillhouse.fairness.token_bucket import TokenBucket
from stillhouse.serving.admission.config import RateLimitsConfig

#: When a request in flight will end is not known.
_IN_FLIGHT_RETRY_AFTER_S = 1.0

#: Idle accounts are dropped bit by bit: this many are checked at each request.
_NUM_SWEPT = 2


class RateLimiter:
    """
    Keeps every account within its limits.

    A rate is a token bucket that holds a minute's worth; a request enters while it is not empty.
    The prompt's tokens are taken at once, and the completion's when it has ended, so that an unused
    `max_tokens` costs nothing. The bucket may be overdrawn, and then admits nothing until it has
    refilled, so that the rate holds in the long run.

    Memory is bounded: an account with nothing in flight and full buckets is dropped.
    """

    def __init__(self, rules: RateLimitsConfig, clock: Clock) -> None:
        self._rules = rules
        self._clock = clock
        self._accounts: OrderedDict[tuple[int, str], _Account] = OrderedDict()
        self._keys: Counter[tuple[int, str]] = Counter()  # requests in flight

    def check(self, account_id: int, key_id: int, model: str) -> None:
        """
        Raises what `enter` would, before any work is done for the request.

        Raises:
            RateLimitError: As `enter` does.

        """
        self._refuse_too_many(self._keys[key_id, model], self._rules.max_outstanding_per_key, model)
        if account := self._accounts.get((account_id, model)):
            self._refuse_too_much(account, model, self._clock.monotonic_s())

    def enter(self, account_id: int, key_id: int, model: str, *, prompt_tokens: int) -> None:
        """
        Counts a request as in flight; `leave` must follow when it has ended.

        Raises:
            RateLimitError: The account or its key has too many in flight, or the account has used
                up its minute.

        """
        now_s = self._clock.monotonic_s()
        account = self._accounts.get((account_id, model)) or _Account.under(self._rules)
        self._refuse_too_many(self._keys[key_id, model], self._rules.max_outstanding_per_key, model)
        self._refuse_too_much(account, model, now_s)
        self._keys[key_id, model] += 1
        account.num_outstanding += 1
        account.take(now_s, num_requests=1, num_tokens=prompt_tokens)
        self._accounts[account_id, model] = account
        self._drop_idle_accounts(now_s)

    def leave(self, account_id: int, key_id: int, model: str, *, completion_tokens: int) -> None:
        """Counts a request as ended."""
        self._keys[key_id, model] -= 1
        if not self._keys[key_id, model]:
            del self._keys[key_id, model]
        account = self._accounts[account_id, model]
        account.num_outstanding -= 1
        account.take(self._clock.monotonic_s(), num_requests=0, num_tokens=completion_tokens)

    def __len__(self) -> int:
        """Returns how many accounts have state, each once per model."""
        return len(self._accounts)

    def _refuse_too_much(self, account: _Account, model: str, now_s: float) -> None:
        self._refuse_too_many(account.num_outstanding, self._rules.max_outstanding, model)
        for name, bucket in (("requests", account.requests), ("tokens", account.tokens)):
            if bucket and (wait_s := bucket.wait_s(now_s)):
                raise RateLimitError(
                    f"Rate limited: {bucket.burst:.0f} {name} per minute to {model}",
                    retry_after_s=wait_s,
                )

    def _refuse_too_many(self, num_outstanding: int, limit: int | None, model: str) -> None:
        if limit is not None and num_outstanding >= limit:
            raise RateLimitError(
                f"Rate limited: {num_outstanding} requests to {model} are in flight",
                retry_after_s=_IN_FLIGHT_RETRY_AFTER_S,
            )

    def _drop_idle_accounts(self, now_s: float) -> None:
        for key in list(islice(self._accounts, _NUM_SWEPT)):
            if self._accounts[key].is_idle(now_s):
                del self._accounts[key]
            else:
                self._accounts.move_to_end(key)


@dataclass(slots=True)
class _Account:
    """One account's requests in flight at one model, and its buckets."""

    requests: TokenBucket | None
    tokens: TokenBucket | None
    num_outstanding: int = 0

    @classmethod
    def under(cls, rules: RateLimitsConfig) -> _Account:
        return cls(_bucket(rules.requests_per_minute), _bucket(rules.tokens_per_minute))

    def take(self, now_s: float, *, num_requests: int, num_tokens: int) -> None:
        if self.requests:
            self.requests.take(num_requests, now_s)
        if self.tokens:
            self.tokens.take(num_tokens, now_s)

    def is_idle(self, now_s: float) -> bool:
        buckets = (self.requests, self.tokens)
        return self.num_outstanding == 0 and all(not b or b.is_full(now_s) for b in buckets)


def _bucket(per_minute: int | None) -> TokenBucket | None:
    return None if per_minute is None else TokenBucket.per_minute(per_minute)
