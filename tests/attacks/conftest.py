"""
Attacks on the real server in a child process, on loopback, bounded in bytes, count and time.

- ``server`` (one per file) serves the fake engine with the file's ``CONFIG`` (keys of
  ``[engine.fake]`` first, then tables); ``start_server(config, kind=…, general=…)`` starts further
  ones, ``kind="openvino"`` with the demo model. Each ledger is audited when its server stops.
- ``attacker`` and ``victim`` are accounts on ``server``; more by `accounts.open_account`,
  `accounts.mint_keys`, and `Victim` of another server. ``with victim.streaming():`` around an
  attack proves that a stream survives it; ``victim.is_answered()`` that a request succeeds later.
- ``with at_most_mib_more(server, 20):`` bounds the growth of the gateway's memory. `RawConnection`
  sends any bytes, floods within bounds, and reports whether the server closed; `fault_server.rows`,
  `last_row`, `wait_until` and `alarms` return what was charged and logged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import pytest

from tests.attacks.accounts import Account, open_account
from tests.attacks.victim import Victim
from tests.faults.fault_server import FaultServer, run_fault_server
from tests.faults.preloaded import Preloaded

StartServer = Callable[..., FaultServer]


@pytest.fixture(scope="session")
def preloaded() -> Iterator[Preloaded]:
    """The process from which servers are forked."""
    with Preloaded() as running:
        yield running


@pytest.fixture(scope="module")
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, preloaded: Preloaded
) -> Iterator[FaultServer]:
    """The server of a file's tests, configured by the file's CONFIG."""
    home = tmp_path_factory.mktemp("attacked") / "home"
    config = getattr(request.module, "CONFIG", "")
    with run_fault_server(home, config, preloaded=preloaded) as running:
        yield running


@pytest.fixture
def start_server(tmp_path: Path, preloaded: Preloaded) -> Iterator[StartServer]:
    """Start further servers; all are stopped and audited after the test."""
    numbers = count()
    with ExitStack() as running:

        def start(config: str = "", *, kind: str = "fake", general: str = "") -> FaultServer:
            home = tmp_path / f"home-{next(numbers)}"
            serving = run_fault_server(
                home, config, kind=kind, general=general, preloaded=preloaded
            )
            return running.enter_context(serving)

        yield start


@pytest.fixture(scope="module")
def attacker(server: FaultServer) -> Account:
    """The attacking account."""
    return open_account(server, "attacker")


@pytest.fixture(scope="module")
def victim(server: FaultServer) -> Victim:
    """The attacked account."""
    return Victim(server, open_account(server, "victim"))
