"""Drains the body of a refused request, within bounds, before the response."""

from __future__ import annotations

import asyncio

from starlette.types import Message, Receive

MAX_BYTES = 4 << 20
TIMEOUT_S = 1.0


class BodyDrainer:
    """
    Wraps a request's `receive`, and drains what is left of its body.

    A connection that is closed while its client still sends is reset, and the reset can overtake
    the response (RFC 9112, section 9.6). So the rest of a body is read first; the connection is
    closed only if the body does not end soon.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._has_begun = False
        self.is_over = False
        self.has_remainder = False

    async def receive(self) -> Message:
        """Returns the next message from the client."""
        self._has_begun = True
        message = await self._receive()
        if not message.get("more_body", False):
            self.is_over = True
        return message

    async def drain(self, *, awaits_continue: bool = False) -> None:
        """
        Reads the rest of the body within bounds; `has_remainder` is set if it was not all.

        Args:
            awaits_continue: The client sends its body only after a ``100 Continue``.

        """
        self.has_remainder = True
        if awaits_continue and not self._has_begun:
            return
        num_bytes = 0
        try:
            async with asyncio.timeout(TIMEOUT_S):
                while not self.is_over and num_bytes < MAX_BYTES:
                    num_bytes += len((await self.receive()).get("body", b""))
        except TimeoutError:
            return
        self.has_remainder = not self.is_over
