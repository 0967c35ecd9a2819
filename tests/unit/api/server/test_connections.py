from __future__ import annotations

import asyncio
from collections import Counter

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.api.server import connections as table
from stillhouse.api.server.connections import Address, Connections
from stillhouse.telemetry.metrics import Metrics


class Open:
    """A connection that knows whether it was closed."""

    def __init__(self):
        self.is_aborted = False

    def abort(self):
        self.is_aborted = True


def full_of(max_open, *hosts):
    """A table with a connection of each of *hosts*."""
    connections = Connections(max_open, Metrics())
    entries = [Open() for _ in hosts]
    assert all(connections.add(entry, host) for entry, host in zip(entries, hosts, strict=True))
    return connections, entries


def closed(entries):
    return [number for number, entry in enumerate(entries) if entry.is_aborted]


def test_the_one_that_has_rested_longest_goes():
    """Of the address that has most; who was at work in between has rested less."""
    connections, entries = full_of(4, "a", "b", "b", "b")
    connections.mark_active(entries[1])
    connections.mark_idle(entries[1])

    assert connections.add(Open(), "c")
    assert [2] == closed(entries)
    assert 4 == len(connections)


def test_who_is_at_work_stays():
    """A connection with a request at work is nobody's to take."""
    connections, entries = full_of(3, "a", "a", "b")
    connections.mark_active(entries[0])
    connections.mark_active(entries[1])

    assert connections.add(Open(), "c")
    assert [2] == closed(entries)


def test_who_has_more_takes_nothing_from_who_has_less():
    """Then it is the newcomer who is closed, however long the others rest."""
    connections, entries = full_of(3, "a", "a", "b")
    connections.mark_active(entries[0])
    connections.mark_active(entries[1])
    newcomer = Open()

    assert not connections.add(newcomer, "a")
    assert newcomer.is_aborted
    assert [] == closed(entries)


def test_where_all_are_at_work_nobody_comes_in():
    """The newest is the only one that has nothing to lose."""
    connections, entries = full_of(2, "a", "b")
    for entry in entries:
        connections.mark_active(entry)
    newcomer = Open()

    assert not connections.add(newcomer, "c")
    assert newcomer.is_aborted


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("10.0.0.1", "10.0.0.2", False),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.2", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
    ],
)
def test_what_an_address_is(one, other, is_same):
    """Of IPv6 addresses a customer has a whole network, of IPv4 ones his own, however written."""
    assert is_same is (Address.key_of(one) == Address.key_of(other))


def test_heads_in_pieces_have_a_bound_together(monkeypatch):
    """The oldest is given up first; one that came whole is not held any more."""
    monkeypatch.setattr(table, "MAX_BUFFERED_BYTES", 100)
    connections, entries = full_of(10, "a", "b", "c", "d")
    connections.note_buffered(entries[0], 40)
    connections.note_buffered(entries[0], 0)
    connections.note_buffered(entries[1], 50)
    connections.note_buffered(entries[2], 50)
    assert [] == closed(entries)
    connections.note_buffered(entries[3], 1)

    assert [1] == closed(entries)


def test_who_is_closed_holds_nothing():
    """What comes of a connection that was closed for another is not counted for ever."""
    connections, entries = full_of(1, "a")
    connections.add(Open(), "a")
    assert [0] == closed(entries)
    connections.note_buffered(entries[0], table.MAX_BUFFERED_BYTES + 1)
    connections.note_buffered(entries[0], table.MAX_BUFFERED_BYTES)

    newcomer = Open()
    assert connections.add(newcomer, "a")
    connections.note_buffered(newcomer, table.MAX_BUFFERED_BYTES)
    assert not newcomer.is_aborted


def test_a_bound_that_bites_is_said_once_in_a_while():
    """One line with numbers, not one for each connection."""
    connections, _ = full_of(1, "a")
    with structlog.testing.capture_logs() as lines:
        for now_s in (0, 1, 2, 11):
            connections.add(Open(), "a")
            connections.report(now_s)
        connections.report(30)

    assert [1, 3] == [line["table_full"] for line in lines]


async def test_empty_again():
    """Who waits for the last connection to go is told."""
    connections, entries = full_of(9, "a", "b")
    assert not connections.is_empty.is_set()
    for entry in entries:
        connections.remove(entry)
    await asyncio.wait_for(connections.is_empty.wait(), 1)

    assert 0 == len(connections)


STEP = st.tuples(
    st.sampled_from(["add", "add", "work", "rest", "remove"]),
    st.sampled_from("abc"),
    st.integers(0, 9),
)


@given(st.lists(STEP, max_size=60))
def test_the_rule_in_any_order_of_events(steps):
    """Never more than fit, nobody at work is closed, and nobody loses to who has more."""
    connections = Connections(5, Metrics())
    hosts, at_work = {}, set()
    for what, host, which in steps:
        known = list(hosts)
        if what == "add":
            entry = Open()
            hosts[entry] = host
            is_in = connections.add(entry, host)
            gone = [one for one in hosts if one.is_aborted]
            numbers = Counter(hosts.values())
            assert len(gone) == (len(hosts) > 5)
            assert is_in is (entry not in gone)
            assert not at_work.intersection(gone)
            if gone and is_in:
                assert numbers[hosts[gone[0]]] >= numbers[host]
            for one in gone:
                del hosts[one]
        elif known:
            entry = known[which % len(known)]
            if what == "work":
                connections.mark_active(entry)
                at_work.add(entry)
            elif what == "rest":
                connections.mark_idle(entry)
                at_work.discard(entry)
            else:
                connections.remove(entry)
                at_work.discard(entry)
                del hosts[entry]
        assert len(hosts) == len(connections) <= 5
