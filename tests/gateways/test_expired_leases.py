"""A gateway that was stopped, and whose holds another one has voided meanwhile."""

from __future__ import annotations

import signal
from pathlib import Path

from stillhouse.billing.holds.transactions import LEASE_MS
from stillhouse.billing.ledger import Ledger
from stillhouse.clock import FrozenClock, SystemClock
from stillhouse.store.database import Database
from tests.faults.bare_client import BareClient
from tests.faults.fault_server import FaultServer, cost_picousd
from tests.ledger_audit import audit_differences

NUM_TOKENS = 40


async def test_a_stopped_gateway_charges_what_it_served(url: str, tmp_path: Path) -> None:
    """
    SIGSTOP, a sweep of another gateway, SIGCONT: its stream goes on, and is charged exactly.

    The other gateway's clock is ahead, so that nobody has to wait for a lease to end.
    """
    home = tmp_path / "home"
    server = FaultServer(home, "token_interval_s = 0.002\n", general=f'[store]\nurl = "{url}"\n')
    try:
        assert server.comes_up(), server.log_text()
        with Database.open(url) as database, BareClient(server, max_tokens=NUM_TOKENS) as client:
            client.read(2)
            server.process.send_signal(signal.SIGSTOP)
            ahead = FrozenClock(SystemClock().now_ms() + 2 * LEASE_MS)
            other = Ledger(database, ahead)
            assert 1 == await other.leases.sweep()
            server.process.send_signal(signal.SIGCONT)
            *_, finish, done = client.events()
            server.stop()
            (row,) = await database.read(
                lambda connection: list(
                    connection.exec_driver_sql(
                        "SELECT state, outcome, prompt_tokens, completion_tokens, cost_picousd "
                        "FROM request"
                    )
                )
            )
            assert [] == await audit_differences(Ledger(database, SystemClock()))
    finally:
        server.kill()

    assert done is None
    assert finish is not None
    charged = cost_picousd(row.prompt_tokens, NUM_TOKENS)
    assert ("SETTLED", "length", NUM_TOKENS) == (row.state, row.outcome, row.completion_tokens)
    assert charged == row.cost_picousd == round(finish["usage"]["estimated_cost"] * 10**12)
