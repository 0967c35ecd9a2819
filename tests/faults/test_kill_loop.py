"""kill -9 in full work, again and again: every cost that a client was shown is in the ledger."""

from __future__ import annotations

import os
import random
import sqlite3
import threading
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pytest

from tests.faults.bare_client import BareClient
from tests.faults.fault_server import (
    WAIT_S,
    FaultServer,
    assert_ledger_is_right,
    assert_nothing_is_held,
    rows,
)

NUM_ROUNDS = int(os.environ.get("STILLHOUSE_KILL_ROUNDS", "20"))
NUM_CLIENTS = 4
ENGINE = "token_interval_s = 0.001\n"
#: The most of each field of a request.
DRAWN = {"max_tokens": 8, "seed": 99, "n": 3}


@dataclass(frozen=True, slots=True)
class Shown:
    """The figures that a client received of a complete answer."""

    request_id: str
    prompt_tokens: int
    completion_tokens: int
    cost_picousd: int


class Journal:
    """Records the events that all clients of a round received."""

    def __init__(self) -> None:
        self._has_more = threading.Condition()
        self._num_events = 0
        self.shown: list[Shown] = []

    def saw(self, event) -> None:
        with self._has_more:
            self._num_events += 1
            if event and event.get("usage"):
                usage = event["usage"]
                self.shown.append(
                    Shown(
                        event["id"],
                        usage["prompt_tokens"],
                        usage["completion_tokens"],
                        round(usage["estimated_cost"] * 10**12),
                    )
                )
            self._has_more.notify_all()

    def has_soon(self, num_events):
        """Return when so many events have been seen by all clients together."""
        with self._has_more:
            return self._has_more.wait_for(lambda: self._num_events >= num_events, WAIT_S)


def stream_until_the_end(server, journal, seed) -> None:
    """One client: completions of all lengths, one after the other, while there is a server."""
    draw = random.Random(seed)
    while True:
        try:
            fields: dict[str, Any] = {name: draw.randint(1, most) for name, most in DRAWN.items()}
            with BareClient(server, **fields) as one:
                for event in one.events():
                    journal.saw(event)
        except ConnectionError:
            return


def live_and_be_killed(home, preloaded, seed) -> Journal:
    """One round: clients stream, and after a number of events that *seed* gives, kill -9."""
    journal = Journal()
    server = FaultServer(home, ENGINE, preloaded=preloaded)
    try:
        assert server.comes_up()
        clients = [
            threading.Thread(target=stream_until_the_end, args=(server, journal, f"{seed} {n}"))
            for n in range(NUM_CLIENTS)
        ]
        for client in clients:
            client.start()
        assert journal.has_soon(random.Random(seed).randint(1, 150)), server.log_text()
    finally:
        server.kill()
    for client in clients:
        client.join(WAIT_S)
        assert not client.is_alive()
    return journal


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A home that outlives every kill."""
    return tmp_path_factory.mktemp("kill-loop") / "home"


@pytest.fixture(scope="module")
def journals():
    """The journals of all rounds on that home."""
    return []


@pytest.mark.parametrize("seed", range(NUM_ROUNDS))
def test_nothing_shown_is_lost(home, preloaded, journals, seed):
    """After the kill the ledger is whole and right, and has all that any round's client saw."""
    journals.append(live_and_be_killed(home, preloaded, seed))
    assert_ledger_is_right(home)
    assert_nothing_is_held(home)
    kept = rows(home)

    for shown in (shown for journal in journals for shown in journal.shown):
        row = kept[shown.request_id]
        assert "SETTLED" == row.state
        assert shown == Shown(
            row.request_id, row.prompt_tokens, row.completion_tokens, row.cost_picousd
        )
    with closing(sqlite3.connect(home / "stillhouse.db")) as database:
        assert [("ok",)] == database.execute("PRAGMA integrity_check").fetchall()


def test_the_loop_was_in_full_work(home, journals):
    """The kills met requests of every kind: answered to the end, and cut off in the middle."""
    states = [row.state for row in rows(home).values()]
    assert NUM_ROUNDS <= sum(len(journal.shown) for journal in journals)
    assert NUM_ROUNDS <= states.count("VOIDED")
