"""Holds the open streams of a gateway's sequences."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from stillhouse.engines.base import GenerateStep
from stillhouse.errors import EngineCrashedError, InvalidRequestError, StillhouseError

if TYPE_CHECKING:
    from collections.abc import Callable


class Stream:
    """
    Carries the steps of one sequence to one reading task.

    An asyncio queue supports several readers, and takes three times as long per token.

    Args:
        sequence_id: Never used twice, as a request's own id may be.

    """

    def __init__(self, sequence_id: int, request_id: str) -> None:
        self.sequence_id = sequence_id
        self.request_id = request_id
        #: Steps that the reader has not taken yet; never more than `max_tokens`.
        self._arrived: deque[GenerateStep | StillhouseError] = deque()
        self._has_arrived: asyncio.Future[None] | None = None  # set while the reader waits

    def put(self, arrived: GenerateStep | StillhouseError) -> None:
        """Hands the next step to the reader, or the error that the sequence ends with."""
        self._arrived.append(arrived)
        if self._has_arrived is not None and not self._has_arrived.done():
            self._has_arrived.set_result(None)

    async def get(self) -> GenerateStep | StillhouseError:
        """Returns the next step that was put; waits for it if there is none."""
        if not self._arrived:
            self._has_arrived = asyncio.get_running_loop().create_future()
            await self._has_arrived
            self._has_arrived = None
        return self._arrived.popleft()


class Streams:
    """
    Indexes open streams by sequence and by request.

    Used by one event loop.
    """

    def __init__(self) -> None:
        self._last_id = 0
        self._streams: dict[int, Stream] = {}
        self._sequence_ids: dict[str, int] = {}
        self._num_crashes = 0

    def __len__(self) -> int:
        return len(self._streams)

    def open(self, request_id: str) -> Stream:
        """
        Returns a new stream.

        Raises:
            InvalidRequestError: The request is open already.

        """
        if request_id in self._sequence_ids:
            raise InvalidRequestError(f"A request {request_id!r} is running already.")
        self._last_id += 1
        stream = Stream(self._last_id, request_id)
        self._streams[stream.sequence_id] = stream
        self._sequence_ids[request_id] = stream.sequence_id
        return stream

    def close(self, stream: Stream) -> bool:
        """Forgets *stream*; returns whether it was still open."""
        if self._streams.pop(stream.sequence_id, None) is None:
            return False
        del self._sequence_ids[stream.request_id]
        return True

    def find(self, sequence_id: int) -> Stream | None:
        """Returns the open stream of a sequence."""
        return self._streams.get(sequence_id)

    def sequence_id(self, request_id: str) -> int | None:
        """Returns the sequence id of an open request."""
        return self._sequence_ids.get(request_id)

    def fail_all(self, make_error: Callable[[], StillhouseError]) -> None:
        """Ends every open stream with an error of its own."""
        for stream in list(self._streams.values()):
            stream.put(make_error())
            self.close(stream)

    def crash_all(self) -> None:
        """Ends every open stream with an error that names the crash."""
        self._num_crashes += 1
        number = self._num_crashes
        self.fail_all(
            lambda: EngineCrashedError("The engine died during this request.", crash=number)
        )
