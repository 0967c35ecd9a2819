"""The random histories of `tests/unit/billing/test_state_machine.py`, on two gateways at once."""

from __future__ import annotations

import os
from functools import partial

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule, run_state_machine_as_test
from psycopg.conninfo import conninfo_to_dict

from stillhouse.accounts.accounts import Accounts
from stillhouse.billing.holds.transactions import LEASE_MS
from stillhouse.billing.ledger import Ledger
from stillhouse.store.database import Database
from tests.fault_proxy import CommitFault, FaultProxy
from tests.postgresql import PostgreSQL
from tests.unit.billing.test_state_machine import NOBODY_GUESSES, LedgerMachine

#: A history takes far longer here than in a file.
NUM_EXAMPLES = max(4, int(os.environ.get("STILLHOUSE_LEDGER_EXAMPLES", "0")) // 25)


class GatewaysMachine(LedgerMachine):
    """All operations on a ledger, on two alternating gateways and a failing network."""

    def __init__(self, server: PostgreSQL) -> None:
        self.proxy = FaultProxy(server.socket)
        name = conninfo_to_dict(server.empty_ledger())["dbname"]
        self.url = f"postgresql://stillhouse@127.0.0.1:{self.proxy.port}/{name}"
        super().__init__()

    def open(self) -> None:
        self.database, self.other_database = Database.open(self.url), Database.open(self.url)
        self.ledger = Ledger(self.database, self.clock)
        self.other_ledger = Ledger(self.other_database, self.clock)
        self.accounts = self.do(
            Accounts.open(self.database, self.clock, self.folder, NOBODY_GUESSES)
        )
        self.other_accounts = self.do(
            Accounts.open(self.other_database, self.clock, self.folder, NOBODY_GUESSES)
        )

    def teardown(self) -> None:
        self.do(self.other_ledger.close())
        self.do(self.other_accounts.close())
        self.other_database.close()
        super().teardown()
        self.proxy.close()

    @rule()
    def take_turns(self) -> None:
        """Switch to the other gateway."""
        self.database, self.other_database = self.other_database, self.database
        self.ledger, self.other_ledger = self.other_ledger, self.ledger
        self.accounts, self.other_accounts = self.other_accounts, self.accounts

    @rule(fault=st.sampled_from(CommitFault))
    def lose_commit(self, fault: CommitFault) -> None:
        """The next COMMIT is not answered, whether or not it is done."""
        self.proxy.fail_next_commit(fault)

    @rule()
    def break_connections(self) -> None:
        self.proxy.blink()

    @rule()
    def restart(self) -> None:
        """Start a gateway anew, and void what has outlived its lease: nothing else."""
        self.do(self.ledger.close())
        self.do(self.accounts.close())
        self.ledger = Ledger(self.database, self.clock)
        self.accounts = self.do(
            Accounts.open(self.database, self.clock, self.folder, NOBODY_GUESSES)
        )
        assert self.reference.sweep(self.clock.now_ms()) == self.do(self.ledger.leases.sweep())

    @rule()
    def lapse(self) -> None:
        """Both gateways are away for a lease's time, and this one is the first to come back."""
        self.clock.advance(LEASE_MS / 1000)
        assert self.reference.sweep(self.clock.now_ms()) == self.do(self.ledger.leases.sweep())

    # These are about a file.
    crash_and_restart = None  # type: ignore[assignment]
    fill_disk = None  # type: ignore[assignment]


def test_two_gateways_with_any_history_agree_with_a_reference_ledger(
    postgresql: PostgreSQL,
) -> None:
    """After any history on both gateways, every sum agrees with the reference ledger."""
    run_state_machine_as_test(
        partial(GatewaysMachine, postgresql),  # type: ignore[arg-type]  # any factory will do
        settings=settings(
            max_examples=NUM_EXAMPLES,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
