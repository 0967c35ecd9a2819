"""The sink: a server that reads an attack and does nothing, as the control."""

from __future__ import annotations

import asyncio

from benchmarks.abuse.attack import KIB


class Sink(asyncio.Protocol):
    """Reads everything, and answers complete requests with an empty object."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start with an empty buffer."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._head = b""
        self._num_body_bytes = 0
        self._is_last = False

    def data_received(self, data: bytes) -> None:
        """Consume the data, and answer the requests that it completes."""
        if self._num_body_bytes:
            taken = min(self._num_body_bytes, len(data))
            self._num_body_bytes -= taken
            data = data[taken:]
            if not self._num_body_bytes:
                self._answer()
        if not data:
            return
        self._head = (self._head + data)[-256 * KIB :]
        while b"\r\n\r\n" in self._head:
            head, _, rest = self._head.partition(b"\r\n\r\n")
            _, _, length = head.partition(b"Content-Length: ")
            num_bytes = int(length.split(b"\r\n")[0]) if length else 0
            self._head = rest[num_bytes:]
            self._is_last = b"Connection: close" in head
            self._num_body_bytes = max(num_bytes - len(rest), 0)
            if not self._num_body_bytes:
                self._answer()
        if len(self._head) >= 128 * KIB:
            self._head = b""

    def _answer(self) -> None:
        if self._transport.is_closing():
            return
        if self._transport.get_write_buffer_size() < 64 * KIB:
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        if self._is_last:
            self._transport.close()
