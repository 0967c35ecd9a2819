"""A worker's end of the line to its gateway."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING

from stillhouse.engines.frames import LENGTH_BYTES, ToGateway, ToWorker, body_length, encode
from stillhouse.engines.frames import decode_to_worker as decode

if TYPE_CHECKING:
    import socket

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def live_and_die_with_parent() -> None:
    """
    Tie this process to the one that spawned it, whatever its own loop is doing.

    A terminal's Ctrl-C and a service manager's SIGTERM reach the whole group; the gateway alone
    decides when its worker ends, so that running requests can be drained.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class GatewayLink:
    """
    Messages from and to the gateway.

    A thread of its own reads the socket, so that a cancel is here before the step that it
    interrupts is over, and so that the process ends with its gateway even in mid-step. All other
    methods belong to the engine loop.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._arrived: list[ToWorker] = []
        self._has_arrived = threading.Condition()
        threading.Thread(target=self._read, name="gateway-link", daemon=True).start()

    def receive(self, *, wait: bool, timeout_s: float | None = None) -> list[ToWorker]:
        """
        Take all messages that have arrived, in order.

        Args:
            wait: Until there is at least one, or until *timeout_s* is over.
            timeout_s: None waits for as long as it takes.

        """
        with self._has_arrived:
            if wait:
                self._has_arrived.wait_for(lambda: self._arrived, timeout_s)
            arrived, self._arrived = self._arrived, []
            return arrived

    def send(self, message: ToGateway) -> None:
        """Send *message*; blocks while the gateway does not read."""
        try:
            self._connection.sendall(encode(message))
        except OSError:
            os._exit(0)  # nobody is left to be told

    def _read(self) -> None:
        with self._connection.makefile("rb") as stream:
            while len(prefix := stream.read(LENGTH_BYTES)) == LENGTH_BYTES:
                message = decode(stream.read(body_length(prefix)))
                with self._has_arrived:
                    self._arrived.append(message)
                    self._has_arrived.notify()
        os._exit(0)  # the gateway is gone, and there may be minutes of work in the running step
