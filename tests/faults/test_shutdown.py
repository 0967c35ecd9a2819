"""A service manager ends the server while it works: every row is settled first."""

from __future__ import annotations

from contextlib import ExitStack

from tests.faults.bare_client import BareClient
from tests.faults.fault_server import rows, run_fault_server, witness_log

LONG = 1500  # tokens; takes 8 s
ENGINE = "token_interval_s = 0.005\n[server]\nshutdown_grace_s = 1\n"


def test_sigterm_finishes_what_it_can_and_settles_the_rest(tmp_path):
    """Within the grace a stream ends as always; what is cut off then is charged as drained."""
    home = tmp_path / "home"
    with run_fault_server(home, ENGINE) as server, ExitStack() as clients:
        short = clients.enter_context(BareClient(server, max_tokens=30))
        long = clients.enter_context(BareClient(server, max_tokens=LONG))
        short.read(2)
        long.read(2)
        server.stop()
        short_events = list(short.events())
        long_events = list(long.events())

    by_outcome = {row.outcome: row for row in rows(home).values()}
    log = witness_log(home)
    assert {"length", "drained"} == by_outcome.keys()
    assert (None, 30) == (short_events[-1], by_outcome["length"].completion_tokens)
    assert None not in long_events
    drained = by_outcome["drained"]
    assert len(log[drained.request_id].token_ids) == drained.completion_tokens < LONG
    assert ("SETTLED", "engine") == (drained.state, drained.usage_source)
