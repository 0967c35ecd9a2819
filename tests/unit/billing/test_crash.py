"""What a killed process leaves behind, with real processes and real kills."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stillhouse.billing.ledger import Ledger
from stillhouse.billing.outcome import Outcome
from stillhouse.clock import FrozenClock
from stillhouse.store.database import Database
from stillhouse.types.usage import TokenUsage
from tests.ledger_audit import audit_differences
from tests.unit.billing.conftest import Books

REPOSITORY = Path(__file__).parents[3]
COST_PICOUSD = 354_930_000


async def work_until(moment: str, path: Path) -> None:
    """Run in a process of its own, which ends by SIGKILL at the named moment."""
    books = await Books.open(Database.open(path, is_server=True))
    hold = await books.hold(request_id="the-one")
    if moment == "after settle":
        await books.ledger.settle(hold, usage=TokenUsage(149, 0, 338), outcome=Outcome.STOP)
    os.kill(os.getpid(), signal.SIGKILL)


def kill_at(moment: str, path: Path) -> None:
    process = subprocess.run(
        [sys.executable, "-m", __name__, moment, path], cwd=REPOSITORY, check=False
    )
    assert -signal.SIGKILL == process.returncode


@pytest.mark.parametrize(
    ("moment", "num_swept", "row"),
    [
        ("after hold", 1, ("VOIDED", "gateway_lost", None, 0)),
        ("after settle", 0, ("SETTLED", "stop", 338, COST_PICOUSD)),
    ],
)
async def test_killed_server_leaves_no_doubt(
    tmp_path: Path, moment: str, num_swept: int, row: tuple[object, ...]
) -> None:
    """What was acknowledged is there after kill -9, and what was only held is given back."""
    path = tmp_path / "ledger.db"
    kill_at(moment, path)
    with Database.open(path, is_server=True) as database:
        ledger = Ledger(database, FrozenClock())
        assert num_swept == await ledger.leases.sweep()
        assert [] == await audit_differences(ledger)
        assert [row] == await database.read(
            lambda connection: [
                tuple(row)
                for row in connection.exec_driver_sql(
                    "SELECT state, outcome, completion_tokens, cost_picousd FROM request"
                )
            ]
        )


if __name__ == "__main__":
    asyncio.run(work_until(sys.argv[1], Path(sys.argv[2])))
