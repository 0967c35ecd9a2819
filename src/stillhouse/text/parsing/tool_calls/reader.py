"""Tells the tool calls of an answer from its content, while the answer comes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

from stillhouse.text.families.tool_call_form import ToolCallForm
from stillhouse.text.parsing.text_span import EMPTY, Stretch, joined
from stillhouse.text.parsing.tool_calls.bare_json import BareJson
from stillhouse.text.parsing.tool_calls.mark_finder import MarkFinder, Piece
from stillhouse.text.parsing.tool_calls.marked_json import MarkedJson
from stillhouse.text.parsing.tool_calls.streamed_call import StreamedCall
from stillhouse.text.parsing.tool_calls.syntax import CallEvent, CallNumbers, CallSyntax
from stillhouse.types.chat import ToolCallDelta


class ToolCallReader:
    """
    Tells the tool calls of one answer from its content, while the answer comes.

    Nothing is lost: what looks like a call and is none, comes back as content. A call of a
    function that the request does not have is a call, where marks leave no doubt: clients answer
    it with an error, from which a model learns more than from silence.

    White space before a call is told only if content follows, and then before that content.

    Args:
        marks: Those marks of the form that are added tokens, by id. They are known by their ids
            alone, so that no text becomes one; the form's other marks are found in the text.
        names: What the request's tools are called.
        call_id: From a call's index, from 0, to its id.
        max_calls: How many calls end the answer; None leaves it to the form.

    """

    def __init__(
        self,
        form: ToolCallForm,
        *,
        marks: Mapping[int, str],
        names: Collection[str],
        call_id: Callable[[int], str],
        max_calls: int | None = None,
    ) -> None:
        self.marks = marks
        self.max_calls = form.max_calls if max_calls is None else min(max_calls, form.max_calls)
        self._syntax = _syntax(form, names, CallNumbers(call_id))
        written = [mark for mark in form.marks if mark not in marks.values()]
        self._finder = MarkFinder(written) if written else None
        self._space: list[Stretch] = []
        self._has_called = False

    def push(self, text: Stretch) -> Iterator[CallEvent]:
        """What this text makes certain; each event is to be taken before the next is asked for."""
        pieces = [Piece(text, is_mark=False)] if self._finder is None else self._finder.push(text)
        for piece in pieces:
            if piece.is_mark and not self._syntax.is_in_string:
                yield from self._told(self._syntax.read_mark(piece.stretch))
            else:
                yield from self._told(self._syntax.read(piece.stretch))

    def push_mark(self, mark: Stretch) -> Iterator[CallEvent]:
        """What the token of a mark makes certain."""
        yield from self._flush_finder()
        yield from self._told(self._syntax.read_mark(mark))

    def finish(self) -> Iterator[CallEvent]:
        """What was held back, at the end of the answer."""
        yield from self._flush_finder()
        yield from self._told(self._syntax.finish())
        if self._space and not self._has_called:
            yield joined(self._space)

    def _flush_finder(self) -> Iterator[CallEvent]:
        held = self._finder.flush() if self._finder else EMPTY
        if held.text:
            yield from self._told(self._syntax.read(held))

    def _told(self, events: Iterable[CallEvent]) -> Iterator[CallEvent]:
        """The events, with white space held back at the end of content."""
        for event in events:
            if isinstance(event, Stretch):
                end = len(event.text.rstrip())
                if end:
                    shown = joined([*self._space, event.cut(0, end)])
                    self._space = []
                    yield shown
                if end < len(event.text):
                    self._space.append(event.cut(end))
            else:
                self._has_called = self._has_called or isinstance(event, ToolCallDelta)
                yield event


def _syntax(form: ToolCallForm, names: Collection[str], numbers: CallNumbers) -> CallSyntax:
    if not form.marks:
        return BareJson(names, numbers)
    if form.before_arguments in form.marks:
        return StreamedCall(form, numbers)
    return MarkedJson(form, numbers)
