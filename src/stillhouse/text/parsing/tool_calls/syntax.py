"""What every way of writing tool calls has in common: its events, and how calls are numbered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from stillhouse.text.parsing.text_span import TextSpan
from stillhouse.types.events import ToolCallDelta


@dataclass(frozen=True, slots=True)
class CallEnd:
    """The call that was told last is complete."""


#: Content, a piece of a call, or a call's end.
CallEvent = TextSpan | ToolCallDelta | CallEnd


class CallSyntax(Protocol):
    """One way of writing calls, read piece by piece; what is no call comes back as content."""

    @property
    def is_in_string(self) -> bool:
        """Whether the text so far ends in a JSON string of a call, where no text is a tag."""
        ...

    def read(self, text: TextSpan) -> list[CallEvent]:
        """What this text makes certain."""
        ...

    def read_tag(self, tag: TextSpan) -> list[CallEvent]:
        """What this tag, whole, makes certain."""
        ...

    def finish(self) -> list[CallEvent]:
        """What was held back, at the end of the answer."""
        ...


class CallNumbers:
    """
    Numbers the calls of one answer.

    Args:
        call_id: From a call's index, from 0, to its id.

    """

    def __init__(self, call_id: Callable[[int], str]) -> None:
        self._call_id = call_id
        self._num_begun = 0

    def begin(self, name: str, arguments: str) -> ToolCallDelta:
        """The next call, with all of its arguments or their first piece."""
        index = self._num_begun
        self._num_begun += 1
        return ToolCallDelta(index, id=self._call_id(index), name=name, arguments=arguments)

    def go_on(self, arguments: str) -> ToolCallDelta:
        """The next piece of the last call's arguments."""
        return ToolCallDelta(self._num_begun - 1, arguments=arguments)
