"""A proxy between a gateway and PostgreSQL that injects network faults."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from enum import Enum
from pathlib import Path


class CommitFault(Enum):
    """The fate of the next COMMIT, after which its connection breaks."""

    LOST = "the server never sees it"
    UNANSWERED = "the server does it, and nobody hears of that"


class _Connection:
    """A proxied connection: two sockets, and a thread for each direction."""

    def __init__(self, proxy: FaultProxy, client: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._server = socket.socket(socket.AF_UNIX)
        self._server.connect(proxy.server)
        self._is_answer_lost = False
        for pump in (self._pump_up, self._pump_down):
            threading.Thread(target=pump, daemon=True).start()

    def cut(self) -> None:
        for end in (self._client, self._server):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _pump_up(self) -> None:
        with self._client, suppress(OSError):
            while data := self._client.recv(65536):
                self._proxy.flowing.wait()
                fault = self._proxy.take_fault(data)
                if fault is CommitFault.LOST:
                    break
                self._is_answer_lost = fault is CommitFault.UNANSWERED
                self._server.sendall(data)
        self.cut()

    def _pump_down(self) -> None:
        with self._server, suppress(OSError):
            while data := self._server.recv(65536):
                self._proxy.flowing.wait()
                if self._is_answer_lost:
                    break
                self._client.sendall(data)
        self.cut()


class FaultProxy:
    """
    Forwards bytes between TCP on this machine and the server's Unix socket.

    Attributes:
        flowing: While it is cleared, the proxy drops all bytes silently.

    """

    def __init__(self, server: Path) -> None:
        self.server = str(server)
        self.flowing = threading.Event()
        self.flowing.set()
        self._is_cut = False
        self._fault: CommitFault | None = None
        self._is_cut_after_fault = False
        self._lock = threading.Lock()
        self._lines: list[_Connection] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Break every connection, and every new one until `mend`."""
        with self._lock:
            self._is_cut = True
        self.blink()

    def blink(self) -> None:
        """Break the existing connections."""
        with self._lock:
            lines, self._lines = self._lines, []
        for line in lines:
            line.cut()

    def mend(self) -> None:
        """Forward everything again."""
        with self._lock:
            self._is_cut = False
        self.flowing.set()

    def fail_next_commit(self, fault: CommitFault, *, then_cut: bool = False) -> None:
        """Make the next COMMIT fail; *then_cut* breaks new connections, too, until `mend`."""
        with self._lock:
            self._fault, self._is_cut_after_fault = fault, then_cut

    def take_fault(self, data: bytes) -> CommitFault | None:
        """Return the fault of these bytes on their way to the server, if any."""
        with self._lock:
            # As a statement of its own; BEGIN contains the word, too.
            if self._fault is None or b"COMMIT\0" not in data:
                return None
            fault, self._fault = self._fault, None
            self._is_cut |= self._is_cut_after_fault
            return fault

    def close(self) -> None:
        """Close all connections and the listener."""
        self.cut()
        self.flowing.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                with self._lock:
                    if self._is_cut:
                        client.close()
                    else:
                        self._lines.append(_Connection(self, client))
