"""The table of open connections: bounds their number, and chooses which one to close."""

from __future__ import annotations

import asyncio
import ipaddress
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Protocol

import structlog

from stillhouse.api.http import errors as http_errors
from stillhouse.errors import (
    HeadTooLargeError,
    HeadTooSlowError,
    MalformedRequestError,
    StillhouseError,
    TargetTooLongError,
)
from stillhouse.telemetry.metrics import Metrics

log = structlog.get_logger()

#: Most bytes of incomplete heads in all; beyond it, the oldest are closed.
MAX_BUFFERED_BYTES = 16 << 20
_IPV6_NETWORK_BITS = 64  # the least that one customer of a provider has (RFC 6177)
_MAX_ADDRESSES_CHECKED = 64  # addresses that are searched for an idle connection
_REPORT_INTERVAL_S = 10.0
#: Reasons that are logged; the others are common.
_LOGGED_REASONS = ("table_full", "address_over_share", "heads_held", "head_too_large")
_REFUSALS: dict[type[StillhouseError], str] = {
    HeadTooLargeError: "head_too_large",
    TargetTooLongError: "head_too_large",
    HeadTooSlowError: "head_timeout",
    MalformedRequestError: "malformed",
}


class Entry(Protocol):
    """A connection as the table and the server see it."""

    address: Address

    def check_deadlines(self, now_s: float) -> bool:
        """Closes the connection if it timed out; returns whether its client did not read."""
        ...

    def shut_down(self) -> None:
        """Closes at once, or after the current response."""
        ...

    def close(self) -> None:
        """Closes after what was written is sent."""
        ...

    def abort(self) -> None:
        """Resets the connection."""
        ...


class Address:
    """
    The origin of connections: an IPv4 address, or a network of IPv6 addresses.

    Attributes:
        idle: Its connections without a request at work, the one that has been idle longest first.

    """

    __slots__ = ("idle", "key", "num_open")

    def __init__(self, key: str) -> None:
        self.key = key
        self.num_open = 0
        self.idle: dict[Entry, None] = {}

    @staticmethod
    def key_of(host: str) -> str:
        """Returns the key under which *host* is counted."""
        if ":" not in host:
            return host
        address = ipaddress.IPv6Address(host.partition("%")[0])
        if address.ipv4_mapped is not None:  # if one socket listens for both
            return str(address.ipv4_mapped)
        return str(ipaddress.IPv6Network((address, _IPV6_NETWORK_BITS), strict=False))


class Connections:
    """
    The table of open connections.

    When it is full, a new connection replaces an idle one: the one idle for longest, of the address
    that has most. An address never replaces one of an address that has fewer.

    Args:
        max_open: Most open connections.

    Attributes:
        is_empty: Set while there are no connections.

    """

    def __init__(self, max_open: int, metrics: Metrics) -> None:
        self._max_open = max_open
        self._open: dict[Entry, None] = {}
        self._addresses: dict[str, Address] = {}
        self._by_num_open = _Ranks()
        self._buffered: dict[Entry, int] = {}
        self._num_held_bytes = 0
        self._closed = metrics.http_connections_closed
        self._refused = metrics.refused
        self._unreported: Counter[str] = Counter()
        self._reported_at_s = -_REPORT_INTERVAL_S
        self.is_empty = asyncio.Event()
        self.is_empty.set()
        metrics.http_connections.set_function(lambda: len(self._open))

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[Entry]:
        """Yields the connections; those that close meanwhile are skipped."""
        return (connection for connection in tuple(self._open) if connection in self._open)

    def add(self, connection: Entry, host: str) -> bool:
        """Adds a connection from *host*; returns False if there is no room."""
        key = Address.key_of(host)
        address = self._addresses.get(key) or self._addresses.setdefault(key, Address(key))
        connection.address = address
        self._open[connection] = None
        self.is_empty.clear()
        self._rank(address, +1)
        address.idle[connection] = None
        return len(self._open) <= self._max_open or self._make_room(connection)

    def remove(self, connection: Entry) -> None:
        """Removes a connection that is closed, or about to be."""
        if connection not in self._open:
            return
        self.note_buffered(connection, 0)
        del self._open[connection]
        address = connection.address
        address.idle.pop(connection, None)
        self._rank(address, -1)
        if not address.num_open:
            del self._addresses[address.key]
        if not self._open:
            self.is_empty.set()

    def mark_idle(self, connection: Entry) -> None:
        """Marks *connection* as idle: no request of it runs."""
        if connection in self._open:
            connection.address.idle[connection] = None

    def mark_active(self, connection: Entry) -> None:
        """Marks *connection* as active: it cannot be replaced by another."""
        connection.address.idle.pop(connection, None)

    def note_buffered(self, connection: Entry, num_bytes: int) -> None:
        """Notes the bytes of an incomplete head; if all have too many, the oldest are closed."""
        if connection not in self._open:
            return  # a connection that was replaced may still get bytes that came before
        self._num_held_bytes += num_bytes - self._buffered.get(connection, 0)
        if num_bytes:
            self._buffered[connection] = num_bytes
        else:
            self._buffered.pop(connection, None)
        while self._num_held_bytes > MAX_BUFFERED_BYTES:
            self.close(next(iter(self._buffered)), "heads_held")

    def close(self, connection: Entry, reason: str) -> None:
        """Closes a connection, and counts the reason."""
        self.remove(connection)
        self.count(reason)
        connection.abort()

    def count(self, reason: str) -> None:
        """Counts a connection that is closed on the server's initiative."""
        self._closed.labels(reason).inc()
        if reason in _LOGGED_REASONS:
            self._unreported[reason] += 1

    def count_refusal(self, error: StillhouseError) -> None:
        """Counts a connection that is closed because of its bytes."""
        self._refused.labels(str(http_errors.status_of(error))).inc()
        if reason := _REFUSALS.get(type(error)):
            self.count(reason)

    def report(self, now_s: float) -> None:
        """Logs which bounds were reached, at most once per interval."""
        if self._unreported and now_s >= self._reported_at_s + _REPORT_INTERVAL_S:
            log.warning("connections_closed", **self._unreported, num_open=len(self._open))
            self._unreported.clear()
            self._reported_at_s = now_s

    def _make_room(self, newcomer: Entry) -> bool:
        for address in islice(self._by_num_open, _MAX_ADDRESSES_CHECKED):
            if address.num_open < newcomer.address.num_open:
                break
            for connection in address.idle:
                if connection is newcomer:
                    continue
                self.close(connection, "table_full")
                return True
        self.close(newcomer, "address_over_share")
        return False

    def _rank(self, address: Address, change: int) -> None:
        self._by_num_open.move(address, address.num_open, address.num_open + change)
        address.num_open += change


class _Ranks:
    """Addresses, ranked by their number of connections."""

    def __init__(self) -> None:
        self._ranks: dict[int, dict[Address, None]] = {}

    def __iter__(self) -> Iterator[Address]:
        """Yields those with most first; n connections have at most sqrt(2 n) ranks."""
        for rank in sorted(self._ranks, reverse=True):
            yield from self._ranks[rank]

    def move(self, address: Address, old: int, new: int) -> None:
        """Moves *address* from *old* to *new* connections."""
        if old:
            rank = self._ranks[old]
            del rank[address]
            if not rank:
                del self._ranks[old]
        if new:
            self._ranks.setdefault(new, {})[address] = None
