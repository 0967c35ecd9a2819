"""What a completion has told and its client has not taken yet, bounded in bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Protocol

from stillhouse.errors import StillhouseError
from stillhouse.types.events import ChatEvent, TextDelta

#: With what is encoded and what the connection holds, a stream's reader keeps 256 KiB waiting.
MAX_BYTES = 128 << 10

# About what OpenAI's dialect writes around a text, and of a log probability.
_EVENT_BYTES = 256
_LOGPROB_BYTES = 80
_MOST_BYTES_OF_A_CHARACTER = 4


class LeaseGuard(Protocol):
    """Says, at the price of a look at the clock, whether what is served is still held."""

    @property
    def has_fresh_leases(self) -> bool:
        """Whether nobody can have voided it."""
        ...

    async def refresh_leases(self) -> None:
        """Hold it again, or have its request stopped."""
        ...


class EventBuffer:
    """
    Events on their way from a completion to its client.

    Whoever tells looks at `is_full` after each event, and waits for `room`. The bound ends with
    `end_bound`, when what is still to come is little.

    Args:
        leases: Asked before each batch, so that nothing is told of requests whose hold is lost.
        max_bytes: Of events as they are about to be written; passed by the last one at most.

    """

    def __init__(self, leases: LeaseGuard | None = None, max_bytes: int = MAX_BYTES) -> None:
        self._leases = leases
        self._max_bytes = max_bytes
        self._events: list[ChatEvent] = []
        self._num_told = 0  # bytes
        self._num_being_taken = 0
        self._is_bounded = True
        self._has_reader = True
        self._is_over = False
        self._error: StillhouseError | None = None
        self._has_more = asyncio.Event()
        self._has_room = asyncio.Event()

    @property
    def num_bytes(self) -> int:
        """About what waits, with what the client is just being sent."""
        return self._num_told + self._num_being_taken

    @property
    def is_full(self) -> bool:
        """Whether nothing more should be told before there is room."""
        return self._num_told + self._num_being_taken >= self._max_bytes and self._is_bounded

    def tell(self, event: ChatEvent) -> None:
        """Add *event*; behind the end, or when nobody reads any more, it is dropped."""
        if self._is_over or not self._has_reader:
            return
        self._events.append(event)
        self._num_told += _num_bytes(event)
        self._has_more.set()

    def close(self, error: StillhouseError | None = None) -> None:
        """End the events, with *error* or well; the first end counts."""
        if not self._is_over:
            self._is_over = True
            self._error = error
            self._has_more.set()

    def end_bound(self) -> None:
        """Take whatever comes from now on."""
        self._is_bounded = False
        self._has_room.set()

    def abandon(self) -> None:
        """Drop what is told, now that nobody reads any more."""
        self.end_bound()
        self._has_reader = False
        self._events.clear()
        self._num_told = 0

    async def room(self) -> None:
        """Return when it is not full, or the bound has ended."""
        while self.is_full:
            self._has_room.clear()
            await self._has_room.wait()

    async def batches(self) -> AsyncIterator[list[ChatEvent]]:
        """
        Yield all events that wait, again and again, to the end.

        Those of a batch are taken when the next one is asked for.

        Raises:
            StillhouseError: The one that it was closed with, behind the last event.

        """
        while True:
            if not self._events and not self._is_over:
                await self._has_more.wait()
            if self._leases is not None and not self._leases.has_fresh_leases:
                await self._leases.refresh_leases()
            self._has_more.clear()
            is_over = self._is_over
            if self._events:
                batch, self._events = self._events, []
                self._num_told, self._num_being_taken = 0, self._num_told
                yield batch
                self._num_being_taken = 0
                self._has_room.set()
            if is_over:
                if self._error is not None:
                    raise self._error
                return


def _num_bytes(event: ChatEvent) -> int:
    if not isinstance(event, TextDelta):
        return _EVENT_BYTES
    num_bytes = _EVENT_BYTES
    for text in (event.content, event.reasoning):
        num_bytes += len(text) if text.isascii() else _MOST_BYTES_OF_A_CHARACTER * len(text)
    for call in event.tool_calls:
        num_bytes += _EVENT_BYTES + _MOST_BYTES_OF_A_CHARACTER * len(call.arguments)
    for token in event.logprobs:
        num_bytes += _LOGPROB_BYTES * (1 + len(token.top))
    return num_bytes
