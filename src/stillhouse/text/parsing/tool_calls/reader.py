"""Separates the tool calls of an answer from its content while it streams."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

from stillhouse.text.parsing.text_span import EMPTY, TextSpan, joined
from stillhouse.text.parsing.tool_calls.bare_json import BareJson
from stillhouse.text.parsing.tool_calls.streamed_call import StreamedCall
from stillhouse.text.parsing.tool_calls.syntax import CallEvent, CallNumbers, CallSyntax
from stillhouse.text.parsing.tool_calls.tag_finder import Piece, TagFinder
from stillhouse.text.parsing.tool_calls.tagged_json import TaggedJson
from stillhouse.types.events import ToolCallDelta
from stillhouse.types.tool_call_form import ToolCallForm


class ToolCallReader:
    """
    Separates the tool calls of one answer from its content while it streams.

    Nothing is lost: what looks like a call and is none, comes back as content. A call of a
    function that the request does not have is a call, where tags leave no doubt: clients answer
    it with an error, from which a model learns more than from silence.

    White space before a call is emitted only if content follows, before that content.

    Args:
        tags: Those tags of the form that are added tokens, by id. They are known by their ids
            alone, so that no text becomes one; the form's other tags are found in the text.
        names: What the request's tools are called.
        call_id: From a call's index, from 0, to its id.
        max_calls: How many calls end the answer; None leaves it to the form.

    """

    def __init__(
        self,
        form: ToolCallForm,
        *,
        tags: Mapping[int, str],
        names: Collection[str],
        call_id: Callable[[int], str],
        max_calls: int | None = None,
    ) -> None:
        self.tags = tags
        self.max_calls = form.max_calls if max_calls is None else min(max_calls, form.max_calls)
        self._syntax = _syntax(form, names, CallNumbers(call_id))
        written = [tag for tag in form.tags if tag not in tags.values()]
        self._finder = TagFinder(written) if written else None
        self._space: list[TextSpan] = []
        self._has_called = False

    def push(self, text: TextSpan) -> Iterator[CallEvent]:
        """Reads text and yields the events that it completes, each to be used before the next."""
        pieces = [Piece(text, is_tag=False)] if self._finder is None else self._finder.push(text)
        for piece in pieces:
            if piece.is_tag and not self._syntax.is_in_string:
                yield from self._emit(self._syntax.read_tag(piece.span))
            else:
                yield from self._emit(self._syntax.read(piece.span))

    def push_tag(self, tag: TextSpan) -> Iterator[CallEvent]:
        """Reads the token of a tag and yields the events that it completes."""
        yield from self._flush_finder()
        yield from self._emit(self._syntax.read_tag(tag))

    def finish(self) -> Iterator[CallEvent]:
        """Yields the events held back, at the end of the answer."""
        yield from self._flush_finder()
        yield from self._emit(self._syntax.finish())
        if self._space and not self._has_called:
            yield joined(self._space)

    def _flush_finder(self) -> Iterator[CallEvent]:
        held = self._finder.flush() if self._finder else EMPTY
        if held.text:
            yield from self._emit(self._syntax.read(held))

    def _emit(self, events: Iterable[CallEvent]) -> Iterator[CallEvent]:
        """Yields the events, with white space held back at the end of content."""
        for event in events:
            if isinstance(event, TextSpan):
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
    if not form.tags:
        return BareJson(names, numbers)
    if form.before_arguments in form.tags:
        return StreamedCall(form, numbers)
    return TaggedJson(form, numbers)
