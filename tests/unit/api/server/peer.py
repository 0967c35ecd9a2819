"""A client in memory: what it sends comes only as fast as it is read, as over TCP."""

from __future__ import annotations

import asyncio

from stillhouse.api.server.connection import Connection
from stillhouse.api.server.server import HttpRules, HttpServer
from stillhouse.telemetry.metrics import Metrics


class Peer(asyncio.Transport):
    """
    A transport whose other side sends, and takes as much as the test says.

    Args:
        takes_all: Whether it reads what is written at once.

    """

    def __init__(self, server, host="127.0.0.1", *, takes_all=True):
        super().__init__()
        self.host = host
        self.takes_all = takes_all
        self.inbox = bytearray()
        self.written = b""
        self.num_taken = 0
        self.is_paused = self.is_closed = self.is_aborted = self.has_eof = False
        self.options = []
        self.connection = Connection(server)
        self.connection.connection_made(self)

    # What the client does.

    def send(self, data):
        """Send; what is not read waits here."""
        self.inbox += data
        while self.inbox and not (self.is_paused or self.is_closed):
            buffer = self.connection.get_buffer(-1)
            num_bytes = min(len(buffer), len(self.inbox))
            buffer[:num_bytes] = self.inbox[:num_bytes]
            del self.inbox[:num_bytes]
            self.connection.buffer_updated(num_bytes)

    def take(self, num_bytes):
        """Read so much of what is ready."""
        self.num_taken += num_bytes
        if self.connection.is_full and self.get_write_buffer_size() == 0:
            self.connection.resume_writing()

    def disconnect(self):
        self.is_closed = True
        self.connection.connection_lost(None)

    # What the connection sees.

    def write(self, data):
        assert not self.has_eof
        self.written += data
        if self.takes_all:
            self.num_taken = len(self.written)
        elif self.get_write_buffer_size() > 64 << 10 and not self.connection.is_full:
            self.connection.pause_writing()

    def write_eof(self):
        self.has_eof = True

    def get_write_buffer_size(self):
        return len(self.written) - self.num_taken

    def pause_reading(self):
        assert not self.is_paused
        self.is_paused = True

    def resume_reading(self):
        assert self.is_paused
        self.is_paused = False
        asyncio.get_running_loop().call_soon(self.send, b"")

    def get_extra_info(self, name, default=None):
        return {"socket": self, "peername": (self.host, 50000)}.get(name, default)

    def setsockopt(self, *option):
        self.options.append(option[:2])

    def is_closing(self):
        return self.is_closed

    def close(self):
        self.is_closed = True

    def abort(self):
        self.is_closed = self.is_aborted = True


def make_server(app, rules=None):
    """A server that listens nowhere."""
    return HttpServer(app, rules or HttpRules(max_connections=100), Metrics())


async def run_pending(number=20):
    """Let everything that is ready happen."""
    for _ in range(number):
        await asyncio.sleep(0)
