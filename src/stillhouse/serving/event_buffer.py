"""Buffers the events that a client has not read yet, bounded in bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Protocol

from stillhouse.errors import StillhouseError
from stillhouse.serving.response_accumulator import ResponseAccumulator
from stillhouse.types.events import ChatEvent, ChoiceAnswer, ChoiceEnd, TextDelta

#: With what is encoded and what the connection holds, a stream's reader keeps 256 KiB waiting.
MAX_BYTES = 128 << 10

# About what the OpenAI dialect writes around a text, and for a log probability.
_EVENT_BYTES = 256
_LOGPROB_BYTES = 80
_MOST_BYTES_OF_A_CHARACTER = 4


class LeaseGuard(Protocol):
    """Knows whether another gateway can have voided a hold; reading it is cheap."""

    @property
    def are_fresh(self) -> bool:
        """Whether no other gateway can have voided a hold of this one."""
        ...

    async def refresh(self) -> None:
        """Takes voided holds back, or stops their requests."""
        ...


class EventBuffer:
    """
    Hands a request's events to its client in batches.

    The producer checks `is_full` after each event, and then awaits `wait_for_space`. `lift_limit`
    ends the bound, when little is still to come.

    Args:
        leases: Refreshed before each batch, so that no text of a request is sent whose hold is
            lost.
        max_bytes: Bound on the buffered events as they are written; only the last event passes it.
        recorder: Records all events, also those that no client reads, for repetitions.

    """

    def __init__(
        self,
        leases: LeaseGuard | None = None,
        max_bytes: int = MAX_BYTES,
        recorder: ResponseAccumulator | None = None,
    ) -> None:
        self._leases = leases
        self._max_bytes = max_bytes
        self._recorder = recorder
        self._events: list[ChatEvent] = []
        self._num_waiting = 0  # bytes
        self._num_being_sent = 0
        self._is_bounded = True
        self._has_reader = True
        self._is_over = False
        self._error: StillhouseError | None = None
        self._has_more = asyncio.Event()
        self._has_space = asyncio.Event()

    @property
    def num_bytes(self) -> int:
        """About the size of what waits and of what is just being sent."""
        return self._num_waiting + self._num_being_sent

    @property
    def is_full(self) -> bool:
        """Whether the producer should wait for space before the next event."""
        return self._num_waiting + self._num_being_sent >= self._max_bytes and self._is_bounded

    @property
    def is_recorded(self) -> bool:
        """Whether the events are recorded for repetitions."""
        return self._recorder is not None

    def recorded(self, last: ChoiceEnd) -> tuple[ChoiceAnswer, ...]:
        """Returns the recorded response, once *last* has ended its last choice."""
        assert self._recorder is not None, "the events are not recorded. This is a bug."
        self._recorder.add(last)
        return self._recorder.close()

    def emit(self, event: ChatEvent) -> None:
        """Appends *event*; it is dropped after the end, or if no client reads any more."""
        if self._recorder is not None:
            self._recorder.add(event)
        if self._is_over or not self._has_reader:
            return
        self._events.append(event)
        self._num_waiting += _num_bytes(event)
        self._has_more.set()

    def close(self, error: StillhouseError | None = None) -> None:
        """Ends the events, with *error* if given; the first end counts."""
        if not self._is_over:
            self._is_over = True
            self._error = error
            self._has_more.set()

    def lift_limit(self) -> None:
        """Accepts any number of bytes from now on."""
        self._is_bounded = False
        self._has_space.set()

    def drop_reader(self) -> None:
        """Drops what waits and what comes: the client does not read any more."""
        self.lift_limit()
        self._has_reader = False
        self._events.clear()
        self._num_waiting = 0

    async def wait_for_space(self) -> None:
        """Returns when the buffer is not full, or its limit was lifted."""
        while self.is_full:
            self._has_space.clear()
            await self._has_space.wait()

    async def batches(self) -> AsyncIterator[list[ChatEvent]]:
        """
        Yields all events that wait, again and again, until the end.

        A batch counts as sent when the next one is requested.

        Raises:
            StillhouseError: The error that the buffer was closed with, after the last event.

        """
        while True:
            if not self._events and not self._is_over:
                await self._has_more.wait()
            if self._leases is not None and not self._leases.are_fresh:
                await self._leases.refresh()
            self._has_more.clear()
            is_over = self._is_over
            if self._events:
                batch, self._events = self._events, []
                self._num_waiting, self._num_being_sent = 0, self._num_waiting
                yield batch
                self._num_being_sent = 0
                self._has_space.set()
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
