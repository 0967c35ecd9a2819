"""Defines the events of tool calls, the interface of their syntaxes, and their numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from stillhouse.text.parsing.text_span import TextSpan
from stillhouse.types.events import ToolCallDelta


@dataclass(frozen=True, slots=True)
class CallEnd:
    """The call that was emitted last is complete."""


#: Content, a piece of a call, or a call's end.
CallEvent = TextSpan | ToolCallDelta | CallEnd


class CallSyntax(Protocol):
    """Reads one syntax of calls piece by piece; other text comes back as content."""

    @property
    def is_in_string(self) -> bool:
        """Whether the text so far ends in a JSON string of a call, where no text is a tag."""
        ...

    def read(self, text: TextSpan) -> list[CallEvent]:
        """Reads text and returns the events that it completes."""
        ...

    def read_tag(self, tag: TextSpan) -> list[CallEvent]:
        """Reads a whole tag and returns the events that it completes."""
        ...

    def finish(self) -> list[CallEvent]:
        """Returns the events held back, at the end of the answer."""
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
        """Returns the next call, with all of its arguments or their first piece."""
        index = self._num_begun
        self._num_begun += 1
        return ToolCallDelta(index, id=self._call_id(index), name=name, arguments=arguments)

    def go_on(self, arguments: str) -> ToolCallDelta:
        """Returns the next piece of the last call's arguments."""
        return ToolCallDelta(self._num_begun - 1, arguments=arguments)
