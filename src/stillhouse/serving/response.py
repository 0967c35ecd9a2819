"""What the API sees of a request's response, whether an engine makes it or a replay repeats it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from stillhouse.billing.outcome import Outcome
from stillhouse.types.events import ChatEvent, Finish
from stillhouse.types.response_meta import ResponseMeta, ResponseProgress


class CompletionResponse(ResponseProgress, Protocol):
    """The response to one request; `Completion` generates it, and `Replay` repeats a stored one."""

    @property
    def meta(self) -> ResponseMeta:
        """What every part of the response carries."""
        ...

    @property
    def is_replay(self) -> bool:
        """Whether the response was generated and charged before."""
        ...

    @property
    def charged(self) -> Finish | None:
        """Usage and cost of a response that ended in an error; None if nothing was charged."""
        ...

    def events(self) -> AsyncIterator[ChatEvent]:
        """Yields the events of `batches` one by one."""
        ...

    def batches(self) -> AsyncIterator[list[ChatEvent]]:
        """Yields the events in order, as many at once as are ready; the last is `Finish`."""
        ...

    def stop(self, outcome: Outcome) -> None:
        """Cancels what still runs for the response; repeating it changes nothing."""
        ...
