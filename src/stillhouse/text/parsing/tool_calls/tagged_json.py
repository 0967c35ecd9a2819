"""Reads tool calls that are JSON objects between two tags, as Hermes and Qwen write them."""

from __future__ import annotations

from stillhouse.text.parsing.text_span import TextSpan, joined
from stillhouse.text.parsing.tool_calls.call_json import JsonQuotes, read_call
from stillhouse.text.parsing.tool_calls.syntax import CallEnd, CallEvent, CallNumbers
from stillhouse.types.tool_call_form import ToolCallForm


class TaggedJson:
    """
    Reads ``<tool_call>{"name": …, "arguments": {…}}</tool_call>``.

    Each call is emitted once it is whole. Text between two tags that is no call is content, tags
    included. A call that lacks its closing tag counts where its JSON is whole.
    """

    def __init__(self, form: ToolCallForm, numbers: CallNumbers) -> None:
        self._open = next(piece for piece, is_tag in form.pieces(form.call_begin) if is_tag)
        self._numbers = numbers
        self._opening: TextSpan | None = None
        self._body: list[TextSpan] = []
        self._quotes = JsonQuotes()

    @property
    def is_in_string(self) -> bool:
        """Whether the text so far ends inside a JSON string of a call."""
        return self._opening is not None and self._quotes.is_open

    def read(self, text: TextSpan) -> list[CallEvent]:
        """Reads text and returns the events that it completes."""
        if self._opening is None:
            return [text]
        self._body.append(text)
        self._quotes.push(text.text)
        return []

    def read_tag(self, tag: TextSpan) -> list[CallEvent]:
        """Reads a whole tag and returns the events that it completes."""
        if tag.text == self._open:
            events = self._close([])
            self._opening = tag
            return events
        return [tag] if self._opening is None else self._close([tag])

    def finish(self) -> list[CallEvent]:
        """Returns the events held back, at the end of the answer."""
        return self._close([])

    def _close(self, closing: list[TextSpan]) -> list[CallEvent]:
        opening, body = self._opening, self._body
        self._opening, self._body, self._quotes = None, [], JsonQuotes()
        if opening is None:
            return []
        call = read_call("".join([span.text for span in body]))
        if call is None:
            return [joined([opening, *body, *closing])]
        return [self._numbers.begin(*call), CallEnd()]
