"""A connection on which a test sends any bytes, within bounds."""

from __future__ import annotations

import contextlib
import select
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Self

from tests.faults.fault_server import WAIT_S, FaultServer

#: A flood ends when the server has read nothing for this long.
UNREAD_AFTER_S = 1.0


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole response; header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Flood:
    """
    The outcome of a flood.

    Args:
        end: "sent" if all was sent, "closed" if the server closed the connection, "unread" if it
            read nothing for a second.

    """

    num_bytes: int
    end: Literal["sent", "closed", "unread"]


class RawConnection:
    """
    An open TCP connection to the server.

    Args:
        receive_bytes: The size of the socket's receive buffer; None is the system's default.
        source: The loopback address of the client, such as 127.0.0.2.

    """

    def __init__(
        self, server: FaultServer, *, receive_bytes: int | None = None, source: str = "127.0.0.1"
    ) -> None:
        self._socket = socket.socket()
        with contextlib.ExitStack() as on_failure:
            on_failure.callback(self._socket.close)
            self._socket.settimeout(WAIT_S)
            if receive_bytes is not None:  # before connecting, when the window is negotiated
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
            self._socket.bind((source, 0))
            self._socket.connect(("127.0.0.1", server.port))
            self._file = self._socket.makefile("rb")
            on_failure.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def send(self, data: bytes) -> bool:
        """Send all of *data*; return False if the server has closed the connection."""
        try:
            self._socket.sendall(data)
        except ConnectionError:
            return False
        return True

    def flood(self, pieces: Iterable[bytes], *, most_bytes: int) -> Flood:
        """Send piece after piece without reading, until the flood ends."""
        num_bytes = 0
        for piece in pieces:
            view = memoryview(piece)
            while view:
                if num_bytes >= most_bytes:
                    return Flood(num_bytes, "sent")
                if not select.select([], [self._socket], [], UNREAD_AFTER_S)[1]:
                    return Flood(num_bytes, "unread")
                try:
                    num_sent = self._socket.send(view, socket.MSG_DONTWAIT)
                except ConnectionError:
                    return Flood(num_bytes, "closed")
                num_bytes += num_sent
                view = view[num_sent:]
        return Flood(num_bytes, "sent")

    def answer(self) -> Answer | None:
        """Read the next whole response, which has a length; None if the server has closed."""
        try:
            status_line = self._file.readline()
            if not status_line:
                return None
            headers = {}
            while line := self._file.readline().strip():
                name, _, value = line.decode("latin-1").partition(":")
                headers[name.lower()] = value.strip()
            body = self._file.read(int(headers.get("content-length", "0")))
        except ConnectionError:
            return None
        return Answer(int(status_line.split()[1]), headers, body)

    def is_closed_by_server(self) -> bool:
        """Read and discard bytes until the server closes; return False if it never does."""
        try:
            while self._file.read1(1 << 16):
                pass
        except ConnectionError:
            return True
        except TimeoutError:
            return False
        return True

    def close(self) -> None:
        """Close the socket."""
        self._file.close()
        self._socket.close()


def answer_to(server: FaultServer, request: bytes) -> Answer | None:
    """Send one request on a new connection; return its response, or None if there is none."""
    with RawConnection(server) as connection:
        connection.send(request)
        return connection.answer()
