"""An account with many keys beside one with a single key: what counts is who pays."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import ExitStack

import httpx
import pytest

from tests.attacks.accounts import bearer, mint_keys, open_account
from tests.faults.bare_client import BareClient

NUM_KEYS, PER_KEY, NUM_VICTIMS = 20, 2, 10
LONG, SHORT = 1500, 2  # tokens; nobody waits for the end of the first
NUM_SLOTS = 64
#: One sequence at a time, and hardly any credit, so that accounts alternate from the start.
CONFIG = (
    "slots = 1\ntoken_interval_s = 0.005\n"
    f"[queue]\nprompt_window_tokens = 8\nmax_outstanding = {NUM_SLOTS}\n"
)


@pytest.fixture
def queue(start_server):
    """A server whose only slot is taken by a third account, and what waits there."""
    server = start_server(CONFIG)
    with ExitStack() as stack:
        queue = Queue(server, stack)
        yield queue


class Queue:
    """Requests that wait, sent one after the other."""

    def __init__(self, server, stack):
        self.server, self._stack = server, stack
        self._busy = self.send(open_account(server, "busy").headers, max_tokens=LONG)
        self._busy.read(2)
        self._num_sent = self.num_admitted = 1
        self._waiting = {}  # clients by whose they are

    def send(self, headers, **fields):
        return self._stack.enter_context(BareClient(self.server, headers, **fields))

    def wait(self, whose, secrets, each=1):
        """Send so many requests by each key, and return how many were let in."""
        before = self.num_admitted
        clients = [
            self.send(bearer(secret), max_tokens=SHORT, stream=False)
            for secret in each * list(secrets)
        ]
        self._waiting[whose] = clients
        self._num_sent += len(clients)
        self.server.wait_until(self._are_all_let_in_or_refused)
        return self.num_admitted - before

    def _are_all_let_in_or_refused(self):
        text = httpx.get(self.server.url + "/metrics").text
        self.num_admitted = sum_of("stillhouse_outstanding_requests{", text)
        num_refused = sum_of("stillhouse_queue_refusals_total{", text)
        return self.num_admitted + num_refused == self._num_sent

    def turns(self):
        """Free the slot, and return the owners of the requests in the order of their dispatch."""
        self._busy.leave_by_rst()
        owners = {}
        for whose, clients in self._waiting.items():
            owners |= {client.body()["id"]: whose for client in clients}
        begun = map(json.loads, (self.server.home / "witness.jsonl").read_text().split("\n")[1:-1])
        order = [fact["request_id"] for fact in begun if fact.get("index") == 0]
        return [owners[request_id] for request_id in order if request_id in owners]


def sum_of(metric, text):
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(metric))


def test_twenty_keys_take_no_more_turns_than_one(queue):
    """The victim's only key gets ten of the first twenty slots, though the attacker came first."""
    attacker, victim = (open_account(queue.server, name) for name in ("attacker", "victim"))
    queue.wait("attacker", mint_keys(queue.server, attacker, NUM_KEYS), PER_KEY)
    queue.wait("victim", [victim.secret], NUM_VICTIMS)
    turns = queue.turns()

    assert NUM_KEYS * PER_KEY + NUM_VICTIMS == len(turns)
    assert abs(Counter(turns[: 2 * NUM_VICTIMS])["victim"] - NUM_VICTIMS) <= 1


def test_inside_an_account_keys_share_its_turns(queue):
    """A key that sent ten times as much leaves every second slot of its account to another key."""
    account = open_account(queue.server, "account")
    (other,) = mint_keys(queue.server, account, 1)
    queue.wait("heavy", [account.secret], 30)
    queue.wait("light", [other], 3)
    turns = queue.turns()

    assert 3 == Counter(turns[:7])["light"]


def test_twenty_keys_leave_slots_to_another_account(queue):
    """They get all but the last eighth together; the victim gets that, and is served."""
    attacker, victim = (open_account(queue.server, name) for name in ("attacker", "victim"))
    keys = mint_keys(queue.server, attacker, NUM_KEYS)
    num_admitted = queue.wait("attacker", keys, 4)
    num_of_victim = queue.wait("victim", [victim.secret], NUM_SLOTS // 8)

    assert num_admitted <= NUM_SLOTS - NUM_SLOTS // 8
    assert NUM_SLOTS // 8 == num_of_victim
