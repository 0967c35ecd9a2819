"""Connects a worker to its gateway."""

from __future__ import annotations

import os
import threading
import traceback
from typing import TYPE_CHECKING, NoReturn

from stillhouse.engines.worker.frames import (
    MAX_FRAME_BYTES,
    Generate,
    ToGateway,
    ToWorker,
    encode,
)
from stillhouse.engines.worker.frames import decode_to_worker as decode
from stillhouse.workers.framing import LENGTH_BYTES, body_length

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from stillhouse.engines.base import GenerateRequest


class WorkerChannel:
    """
    Receives and sends the messages between worker and gateway.

    A thread of its own reads the socket, so that a cancel is here before the step that it
    interrupts is over, and so that the process ends with its gateway even in mid-step. It does
    nothing else: what holds it up holds up cancels and pings, and an engine that answers no ping
    is killed. `wake` may be called on any thread; all other methods belong to the engine loop.

    Attributes:
        close: Called before the process ends because the gateway has hung up.
        prepare: Called on that thread for each request, before the loop receives it, to start
            slow work on other threads. Neither waits nor raises.

    """

    def __init__(self, connection: socket.socket) -> None:
        self.close: Callable[[], None] | None = None
        self.prepare: Callable[[int, GenerateRequest], None] | None = None
        self._connection = connection
        self._arrived: list[ToWorker] = []
        self._has_arrived = threading.Condition()
        self._is_woken = False
        threading.Thread(target=self._read, name="worker-channel", daemon=True).start()

    def receive(self, timeout_s: float | None) -> list[ToWorker]:
        """
        Takes all messages that have arrived, in order.

        Args:
            timeout_s: Longest wait for the first one or for `wake`; 0 does not wait, None has no
                limit.

        """
        with self._has_arrived:
            if timeout_s != 0:
                self._has_arrived.wait_for(lambda: self._arrived or self._is_woken, timeout_s)
            self._is_woken = False
            arrived, self._arrived = self._arrived, []
            return arrived

    def wake(self) -> None:
        """Makes the current or next `receive` return at once; there is work to do."""
        with self._has_arrived:
            self._is_woken = True
            self._has_arrived.notify()

    def send(self, message: ToGateway) -> None:
        """Sends *message*; blocks while the gateway does not read."""
        try:
            self._connection.sendall(encode(message))
        except OSError:
            self._end()  # the gateway is gone

    def _read(self) -> None:
        try:
            self._hand_over_all()
        except BaseException:  # noqa: BLE001 (whatever it is: a worker that hears nothing is no use)
            traceback.print_exc()
            os._exit(1)
        self._end()  # the gateway is gone, and there may be minutes of work in the running step

    def _end(self) -> NoReturn:
        if self.close is not None:
            self.close()
        os._exit(0)

    def _hand_over_all(self) -> None:
        with self._connection.makefile("rb") as stream:
            while len(prefix := stream.read(LENGTH_BYTES)) == LENGTH_BYTES:
                body = stream.read(length := body_length(prefix, max_bytes=MAX_FRAME_BYTES))
                if len(body) < length:
                    return
                message = decode(body)
                if isinstance(message, Generate) and self.prepare is not None:
                    self.prepare(message.sequence_id, message.request)
                with self._has_arrived:
                    self._arrived.append(message)
                    self._has_arrived.notify()
