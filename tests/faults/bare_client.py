"""A client on a raw socket, which can disconnect in every way that sockets allow."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
from collections.abc import Iterator, Mapping
from typing import Any, Self

from tests.faults.fault_server import CHAT, HELLO, WAIT_S, FaultServer

_LINGER_0 = struct.pack("ii", 1, 0)


class BareClient:
    """
    Sends one request for a completion and reads the response.

    Args:
        headers: Headers in addition to the usual ones, or instead of them.
        receive_bytes: The size of the socket's receive buffer; None is the system's default.
        body: The whole body; None is a streamed chat completion with *fields*.
        fields: The body's fields besides model and messages.

    """

    def __init__(
        self,
        server: FaultServer,
        headers: Mapping[str, str] | None = None,
        /,
        *,
        path: str = CHAT,
        receive_bytes: int | None = None,
        body: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> None:
        text = json.dumps(HELLO | {"stream": True} | fields if body is None else body)
        self.head = b""  # of a whole response, once it is read
        all_headers = server.headers | dict(headers or {})
        head = (
            f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            f"Content-Length: {len(text)}\r\n"
            + "".join(f"{name}: {value}\r\n" for name, value in all_headers.items())
            + "\r\n"
        )
        self._socket = socket.socket()
        with contextlib.ExitStack() as on_failure:
            on_failure.callback(self._socket.close)
            self._socket.settimeout(WAIT_S)
            if receive_bytes is not None:  # before connecting, when the window is negotiated
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
            self._socket.connect(("127.0.0.1", server.port))
            self._file = self._socket.makefile("rb")
            on_failure.callback(self._file.close)
            self._socket.sendall((head + text).encode())
            on_failure.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def events(self) -> Iterator[dict[str, Any] | None]:
        """Yield the data of each event, None for ``[DONE]``, until the server closes."""
        for line in self._file:
            # A kill can truncate a line, which then does not count.
            if line.startswith(b"data: ") and line.endswith(b"\n"):
                data = line.removeprefix(b"data: ").strip()
                yield None if data == b"[DONE]" else json.loads(data)

    def lines(self) -> Iterator[bytes]:
        """Yield the lines of the response as they arrive."""
        return iter(self._file)

    def receive(self, num_bytes: int) -> bytes:
        """Receive at most *limit* bytes; none if the server has closed."""
        return self._socket.recv(num_bytes)

    def body(self) -> Any:
        """Return the JSON of a whole response."""
        self.head, _, body = self._file.read().partition(b"\r\n\r\n")
        return json.loads(body)

    def read(self, num_events: int) -> list[dict[str, Any] | None]:
        """Read a number of events."""
        events = self.events()
        return [next(events) for _ in range(num_events)]

    def leave_by_fin(self) -> None:
        """Close with a FIN, and wait until the server has closed its side, too."""
        self._socket.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            self._file.read()

    def leave_by_rst(self) -> None:
        """Close with a RST, which the server meets at its next read or write."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_0)
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self._file.close()
        self._socket.close()


LEAVE = {"FIN": BareClient.leave_by_fin, "RST": BareClient.leave_by_rst}
