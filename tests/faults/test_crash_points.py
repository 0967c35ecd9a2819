"""The server dies before or after any commit or chunk: what was shown is in the ledger."""

from __future__ import annotations

from contextlib import suppress

import pytest

from stillhouse.testing.failpoints import EXIT_CODE
from tests.faults.bare_client import BareClient
from tests.faults.fault_server import (
    WAIT_S,
    FaultServer,
    assert_ledger_is_right,
    assert_nothing_is_held,
    cost_picousd,
    rows,
)

NUM_TOKENS = 3
NUM_CHUNKS = NUM_TOKENS + 1  # the role comes with the first token, the cost with the last chunk
FIRST_START_COMMITS = 3  # the first key, the prices, the sweep
START_COMMITS = 2  # the prices, the sweep
HOLD, SETTLE = START_COMMITS + 1, START_COMMITS + 2

COMMITS = [f"{side}-commit:{n}" for n in range(1, SETTLE + 1) for side in ("before", "after")]
CHUNKS = [f"{side}-chunk:{n}" for n in range(1, NUM_CHUNKS + 1) for side in ("before", "after")]

# What becomes of the request that is being served; the rest of the points leave none.
SETTLED = ("SETTLED", "length", NUM_TOKENS)
LOST = ("VOIDED", "gateway_lost", None)
ENDS = {
    f"after-commit:{HOLD}": {LOST},
    f"before-commit:{SETTLE}": {LOST},
    f"after-commit:{SETTLE}": {SETTLED},
    # The engine may have ended, and the row be settled, before the first token is sent.
    **{point: {LOST, SETTLED} for point in CHUNKS[:-2]},
    f"before-chunk:{NUM_CHUNKS}": {SETTLED},
    f"after-chunk:{NUM_CHUNKS}": {SETTLED},
}
SEEN_COST_AT = {f"after-chunk:{NUM_CHUNKS}"}


def ask(server):
    """Stream a short answer; return the events that arrived before the server was gone."""
    events = []
    with suppress(ConnectionError), BareClient(server, max_tokens=NUM_TOKENS) as client:
        for event in client.events():
            events.append(event)  # noqa: PERF402  (an error must not lose what came before it)
    return events


def assert_home_is_sound(home):
    assert_ledger_is_right(home)
    assert_nothing_is_held(home)


@pytest.fixture(scope="module")
def home(tmp_path_factory, preloaded):
    """A home that has been served before, and outlives every crash of this module."""
    home = tmp_path_factory.mktemp("crash-points") / "home"
    server = FaultServer(home, preloaded=preloaded)
    try:
        assert server.comes_up()
    finally:
        server.kill()
    return home


@pytest.mark.parametrize("point", COMMITS + CHUNKS)
def test_a_crash_at_any_point_loses_nothing_shown(home, preloaded, point):
    """The row is as far as the point says; whoever saw a cost finds it in the ledger."""
    before = rows(home).keys()
    server = FaultServer(home, failpoint=point, preloaded=preloaded)
    try:
        events = ask(server) if server.comes_up() else []
        assert EXIT_CODE == server.process.wait(WAIT_S)
    finally:
        server.kill()
    assert_home_is_sound(home)
    new = [row for request_id, row in rows(home).items() if request_id not in before]

    assert len(new) == (point in ENDS)
    assert all((row.state, row.outcome, row.completion_tokens) in ENDS[point] for row in new)
    costs = [
        round(event["usage"]["estimated_cost"] * 10**12)
        for event in events
        if event and event.get("usage")
    ]
    shown = [row.cost_picousd for row in new] if point in SEEN_COST_AT else []
    assert shown == costs


@pytest.mark.parametrize("commit", range(1, FIRST_START_COMMITS + 1))
@pytest.mark.parametrize("side", ["before", "after"])
def test_a_crash_of_the_first_start_is_mended_by_the_second(tmp_path, preloaded, side, commit):
    """Wherever the first start dies, the second serves, with a key and a ledger that is right."""
    home = tmp_path / "home"
    dead = FaultServer(home, failpoint=f"{side}-commit:{commit}", preloaded=preloaded)
    try:
        assert not dead.comes_up()
        assert EXIT_CODE == dead.process.wait(WAIT_S)
    finally:
        dead.kill()
    server = FaultServer(home, preloaded=preloaded)
    try:
        assert server.comes_up()
        *_, finish, done = ask(server)
    finally:
        server.kill()
    assert_home_is_sound(home)
    (row,) = rows(home).values()

    assert SETTLED == (row.state, row.outcome, row.completion_tokens)
    assert cost_picousd(row.prompt_tokens, NUM_TOKENS) == row.cost_picousd
    assert (row.cost_picousd, None) == (round(finish["usage"]["estimated_cost"] * 10**12), done)
