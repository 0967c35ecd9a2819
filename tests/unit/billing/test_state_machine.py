"""
Random histories on the real ledger, compared with a naive one after every step.

The invariants are those of the ledger's chapter (docs/ledger.md): one terminal state per request,
postings that sum to zero, limits that are never passed, holds that resolve once, what was
acknowledged is durable, integer money, and derived state that can be thrown away.

STILLHOUSE_LEDGER_EXAMPLES sets how many histories are tried.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Coroutine
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    multiple,
    rule,
)

from stillhouse.accounts.accounts import Accounts
from stillhouse.accounts.authentication.principal_cache import LIFETIME_S
from stillhouse.accounts.config import AccountsConfig
from stillhouse.billing.ledger import Hold, Ledger
from stillhouse.billing.limits.spending_limits import LimitPeriod
from stillhouse.billing.outcome import Outcome
from stillhouse.billing.price import Price
from stillhouse.billing.statements.statement import Statements
from stillhouse.billing.statements.usage import UsageGrouping
from stillhouse.clock import FrozenClock
from stillhouse.errors import (
    AuthenticationError,
    InsufficientFundsError,
    KeyNotFoundError,
    RateLimitError,
    StoreUnavailableError,
)
from stillhouse.store.database import ConflictError, Connection, Database
from stillhouse.types.service_tier import ServiceTier
from stillhouse.types.tariff import Tariff
from stillhouse.types.usage import TokenUsage
from tests.ledger_audit import audit_differences
from tests.unit.billing.reference_ledger import ReferenceLedger, ReferenceRequest

T = TypeVar("T")

MODEL = "m"
DAY_S = 86_400
MAX_PAGES = 2**30  # more than any disk has
MAX_KEYS = 8
#: Its clock may stand still while revoked keys are tried a thousand times, all from one address.
NOBODY_GUESSES = AccountsConfig(auth_failures_per_minute=1_000_000)
which_key = st.integers(0, MAX_KEYS - 1)
tokens = st.integers(min_value=0, max_value=20)
amounts = st.integers(min_value=0, max_value=5_000)
prices = st.integers(min_value=0, max_value=9)


@st.composite
def usages(draw: st.DrawFn) -> TokenUsage:
    """Counts that may be more than was held for, as an engine with a bug would report."""
    prompt_tokens = draw(tokens)
    return TokenUsage(prompt_tokens, draw(st.integers(0, prompt_tokens)), draw(tokens))


@cache
def empty_ledger() -> bytes:
    """A migrated file, as migrating anew for every history would take most of the time."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.db"
        Database.open(path).close()
        return path.read_bytes()


class JumpingClock(FrozenClock):
    """A clock that can be set back, while its monotonic time never goes back."""

    def __init__(self) -> None:
        super().__init__()
        self._monotonic_s = 0.0

    def monotonic_s(self) -> float:
        return self._monotonic_s

    def advance(self, seconds: float) -> None:
        super().advance(seconds)
        self._monotonic_s += max(seconds, 0)


@dataclass(eq=False)
class MachineKey:
    """
    An API key.

    Args:
        revoked_by: The gateway's accounts that ended it, where that is known at once.

    """

    account_id: int
    id: int
    name: str
    secret: str
    revoked_by: Accounts | None = None
    revoked_at_s: float = 0.0


class LedgerMachine(RuleBasedStateMachine):
    """Everything that can happen to a ledger, in any order."""

    holds: Bundle[Hold] = Bundle("holds")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp(prefix="ledger-machine-"))
        (self.folder / "ledger.db").touch(0o600)
        (self.folder / "ledger.db").write_bytes(empty_ledger())
        self.clock = JumpingClock()
        self.numbers = count()
        self.reference = ReferenceLedger()
        self.open()
        self.customers = [
            self.do(self.accounts.create_account("afterwards")).id,
            self.do(self.accounts.create_account("prepaid", is_prepaid=True)).id,
        ]
        self.keys = [self.mint(account_id) for account_id in self.customers]
        self.reference.paid_in_picousd[self.customers[1]] = 0
        self.price = self.publish(Tariff(input_picousd=3, cached_input_picousd=1, output_picousd=7))

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def open(self) -> None:
        self.database = Database.open(self.folder / "ledger.db", is_server=True)
        self.ledger = Ledger(self.database, self.clock)
        self.accounts = self.do(
            Accounts.open(self.database, self.clock, self.folder, NOBODY_GUESSES)
        )

    def mint(self, account_id: int) -> MachineKey:
        name = f"key-{next(self.numbers)}"
        minted = self.do(self.accounts.keys.mint(account_id, name))
        return MachineKey(account_id, minted.key.id, name, minted.secret)

    def key(self, which: int) -> MachineKey:
        return self.keys[which % len(self.keys)]

    def publish(self, tariff: Tariff) -> Price:
        return self.do(self.ledger.prices.publish({MODEL: tariff}))[MODEL][ServiceTier.DEFAULT]

    def teardown(self) -> None:
        self.do(self.ledger.close())
        self.do(self.accounts.close())
        self.database.close()
        self.runner.close()
        shutil.rmtree(self.folder)

    async def may_ask(self, key: MachineKey) -> bool:
        """Authenticate as a request does; a revoked key is refused within its second."""
        try:
            principal = await self.accounts.authenticate(key.secret)
        except (AuthenticationError, RateLimitError):
            assert key.revoked_by is not None
            return False
        assert (key.account_id, key.id) == (principal.account_id, principal.key_id)
        if key.revoked_by is not None:
            assert self.accounts is not key.revoked_by
            assert self.clock.monotonic_s() < key.revoked_at_s + LIFETIME_S
        return True

    async def hold(self, key: MachineKey, prompt_tokens: int, max_tokens: int) -> Hold | None:
        """Admit a request on both ledgers, which must agree; None when it is refused."""
        if not await self.may_ask(key):
            return None
        request_id = f"request-{next(self.numbers)}"
        price, admitted_at_ms = self.price, self.clock.now_ms()
        try:
            hold = await self.ledger.hold(
                request_id=request_id,
                account_id=key.account_id,
                key_id=key.id,
                price=price,
                prompt_tokens=prompt_tokens,
                max_tokens=max_tokens,
            )
        except InsufficientFundsError:
            hold = None
        ceiling_picousd = (
            prompt_tokens * max(price.input_picousd, price.cached_input_picousd)
            + max_tokens * price.output_picousd
        )
        request = ReferenceRequest(key.account_id, key.id, price, ceiling_picousd, admitted_at_ms)
        assert self.reference.admit(request_id, request) == (hold is not None)
        return hold

    @rule(target=holds, which=which_key, prompt_tokens=tokens, max_tokens=tokens)
    def admit(self, which: int, prompt_tokens: int, max_tokens: int) -> Any:
        hold = self.do(self.hold(self.key(which), prompt_tokens, max_tokens))
        return multiple() if hold is None else hold

    @rule(target=holds, which=which_key, max_tokens=tokens, number=st.integers(2, 5))
    def admit_at_once(self, which: int, max_tokens: int, number: int) -> Any:
        """Equal requests at once, so that it does not matter which of them are refused."""
        key = self.key(which)

        async def hold_all() -> list[Hold | None]:
            return await asyncio.gather(*(self.hold(key, 5, max_tokens) for _ in range(number)))

        return multiple(*(hold for hold in self.do(hold_all()) if hold))

    @rule(target=holds, who=st.integers(0, 1), max_tokens=tokens)
    def admit_with_every_key(self, who: int, max_tokens: int) -> Any:
        """One account's keys at once, one after the other: together they have its one limit."""
        keys = [key for key in self.keys if key.account_id == self.customers[who]]
        held = [self.do(self.hold(key, 5, max_tokens)) for key in keys]
        return multiple(*(hold for hold in held if hold))

    @rule(who=st.integers(0, 1))
    def mint_key(self, who: int) -> None:
        if len(self.keys) < MAX_KEYS:
            self.keys.append(self.mint(self.customers[who]))

    @rule(which=which_key)
    def revoke_key(self, which: int) -> None:
        """End a key; what is held with it is settled as ever, and another is not ended twice."""
        key = self.key(which)
        try:
            self.do(self.accounts.keys.revoke_named(key.name, account_id=key.account_id))
        except KeyNotFoundError:
            assert key.revoked_by is not None
            return
        assert key.revoked_by is None
        key.revoked_by, key.revoked_at_s = self.accounts, self.clock.monotonic_s()

    @rule(hold=holds, usage=usages(), outcome=st.sampled_from(Outcome))
    def settle(self, hold: Hold, usage: TokenUsage, outcome: Outcome) -> None:
        """Settle a request, be it the first time or again, with the same counts or with others."""
        cost_picousd = self.do(self.ledger.settle(hold, usage=usage, outcome=outcome))
        assert self.reference.settle(hold.request_id, usage) == cost_picousd

    @rule(hold=holds, usage=st.none() | usages())
    def void(self, hold: Hold, usage: TokenUsage | None) -> None:
        self.do(self.ledger.void(hold, outcome=Outcome.ENGINE_ERROR, usage=usage))
        self.reference.void(hold.request_id, usage)

    @rule(hold=holds, usage=usages())
    def fail_by_its_own_fault(self, hold: Hold, usage: TokenUsage) -> None:
        """What a request is refused for in the middle is charged as far as it came."""
        settle = self.ledger.settle(hold, usage=usage, outcome=Outcome.REQUEST_FAULT)
        assert self.reference.settle(hold.request_id, usage) == self.do(settle)

    @rule()
    def lapse(self) -> None:
        """A gateway is away for so long that another one voids all that it holds."""
        other = Ledger(self.database, self.clock)
        assert self.reference.sweep() == self.do(other.leases.sweep())

    @rule()
    def come_back(self) -> None:
        """It takes back, one after the other, what it held and what is covered still."""
        self.do(self.ledger.leases.renew())
        for request_id in self.mine():
            self.reference.renew(request_id, self.clock.now_ms())

    def mine(self) -> list[str]:
        """What this gateway has admitted and not resolved, oldest first."""
        numbers = ", ".join(map(str, self.ledger.leases._leases)) or "0"
        query = f"SELECT request_id FROM request WHERE number IN ({numbers}) ORDER BY number"
        return self.do(
            self.database.read(lambda connection: list(connection.exec_driver_sql(query).scalars()))
        )

    @rule(hold=holds)
    def repeat_request_id(self, hold: Hold) -> None:
        """An id that exists is refused, and nothing is reserved for it."""
        again = self.ledger.hold(
            request_id=hold.request_id,
            account_id=self.keys[0].account_id,
            key_id=self.keys[0].id,
            price=self.price,
            prompt_tokens=0,
            max_tokens=0,
        )
        try:
            self.do(again)
        except (ConflictError, InsufficientFundsError):
            return
        raise AssertionError("the same request was admitted twice")

    @rule(amount_picousd=st.integers(min_value=1, max_value=500))
    def top_up(self, amount_picousd: int) -> None:
        account_id = self.customers[1]
        self.do(self.ledger.limits.top_up(account_id, amount_picousd))
        self.reference.paid_in_picousd[account_id] += amount_picousd

    @rule(which=which_key, limit_picousd=amounts, period=st.sampled_from(LimitPeriod))
    def set_key_limit(self, which: int, limit_picousd: int, period: LimitPeriod) -> None:
        key_id = self.key(which).id
        used_picousd = self.reference.used_by_key(key_id, period, self.clock.now_ms())
        try:
            self.do(self.ledger.limits.set_key_limit(key_id, limit_picousd, period=period))
        except InsufficientFundsError:
            assert used_picousd > limit_picousd
        else:
            assert used_picousd <= limit_picousd
            self.reference.key_limits[key_id] = (limit_picousd, period)

    @rule(which=which_key)
    def remove_key_limit(self, which: int) -> None:
        key_id = self.key(which).id
        self.do(self.ledger.limits.set_key_limit(key_id, None))
        self.reference.key_limits.pop(key_id, None)

    @rule(input_picousd=prices, cached_input_picousd=prices, output_picousd=prices)
    def change_price(
        self, input_picousd: int, cached_input_picousd: int, output_picousd: int
    ) -> None:
        self.price = self.publish(
            Tariff(
                input_picousd=input_picousd,
                cached_input_picousd=cached_input_picousd,
                output_picousd=output_picousd,
            )
        )

    @rule(seconds=st.integers(min_value=-40 * DAY_S, max_value=40 * DAY_S))
    def jump_clock(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @rule()
    def restart(self) -> None:
        self.do(self.ledger.close())
        self.do(self.accounts.close())
        self.database.close()
        self.open()
        assert self.reference.sweep() == self.do(self.ledger.leases.sweep())

    @rule()
    def crash_and_restart(self) -> None:
        """Go on with the files as a kill -9 at this moment would leave them."""
        left = self.folder.with_name(f"{self.folder.name}-left")
        shutil.copytree(self.folder, left)
        self.do(self.accounts.close())
        self.database.close()
        shutil.rmtree(self.folder)
        left.rename(self.folder)
        self.open()
        assert self.reference.sweep() == self.do(self.ledger.leases.sweep())

    @rule()
    def rebuild(self) -> None:
        self.do(self.ledger.auditor.rebuild())

    @rule(which=which_key, num_requests=st.integers(1, 60))
    def fill_disk(self, which: int, num_requests: int) -> None:
        """On a full disk requests are refused, and none is half admitted."""
        pragma = "PRAGMA max_page_count"

        def limit_pages(connection: Connection) -> None:
            num_pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
            connection.exec_driver_sql(f"{pragma} = {num_pages}")

        self.do(self.database.write(limit_pages))
        for _ in range(num_requests):
            try:
                self.do(self.hold(self.key(which), 0, 0))
            except StoreUnavailableError:
                break
        self.do(
            self.database.write(
                lambda connection: connection.exec_driver_sql(f"{pragma} = {MAX_PAGES}")
            )
        )

    @invariant()
    def audit_finds_nothing(self) -> None:
        """Every sum agrees; only holds that a jump of the clock has left overdue are named."""
        overdue = {
            f"request {request_id}"
            for request_id, request in self.reference.requests.items()
            if request.state == "HELD" and request.lease_until_ms <= self.clock.now_ms()
        }
        differences = self.do(audit_differences(self.ledger))
        assert overdue == {difference.subject for difference in differences}, differences

    @invariant()
    def requests_agree(self) -> None:
        """Every request is in the state, and has the tokens and the cost, that it should have."""
        rows = self.do(self.database.read(fetch_requests))
        assert {
            request_id: (request.state, request.cost_picousd, request.usage)
            for request_id, request in self.reference.requests.items()
        } == rows

    @invariant()
    def balances_agree(self) -> None:
        """Accounts have spent and hold what the naive sums say, and never more than they may."""
        kept = self.do(self.database.read(fetch_account_balances))
        assert {
            account_id: (
                *self.reference.account(account_id),
                self.reference.paid_in_picousd.get(account_id),
            )
            for account_id in self.customers
        } == kept
        assert all(limit is None or spent + held <= limit for spent, held, limit in kept.values())

    @invariant()
    def statement_agrees(self) -> None:
        """The statement's total is what the requests cost."""
        lines = self.do(Statements(self.database).usage(by=UsageGrouping.MODEL))
        costs = [request.cost_picousd or 0 for request in self.reference.requests.values()]
        assert sum(costs) == sum(line.cost_picousd for line in lines)


def fetch_requests(
    connection: Connection,
) -> dict[str, tuple[str, int | None, TokenUsage | None]]:
    rows = connection.exec_driver_sql(
        "SELECT request_id, state, cost_picousd, prompt_tokens, cached_tokens, completion_tokens "
        "FROM request"
    )
    return {
        request_id: (state, cost, None if counts[0] is None else TokenUsage(*counts))
        for request_id, state, cost, *counts in rows
    }


def fetch_account_balances(connection: Connection) -> dict[int, tuple[int, int, int | None]]:
    rows = connection.exec_driver_sql(
        "SELECT holder_id, spent_picousd, held_picousd, limit_picousd FROM balance "
        "WHERE holder = 'account'"
    )
    return {holder_id: (spent, held, limit) for holder_id, spent, held, limit in rows}


TestLedgerMachine = LedgerMachine.TestCase
TestLedgerMachine.settings = settings(
    max_examples=int(os.environ.get("STILLHOUSE_LEDGER_EXAMPLES", "15")),
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
