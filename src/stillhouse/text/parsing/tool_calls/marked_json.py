"""Tool calls that are JSON objects between two marks, as Hermes and Qwen write them."""

from __future__ import annotations

from stillhouse.text.families.tool_call_form import ToolCallForm
from stillhouse.text.parsing.text_span import Stretch, joined
from stillhouse.text.parsing.tool_calls.call_json import JsonQuotes, read_call
from stillhouse.text.parsing.tool_calls.syntax import CallEnd, CallEvent, CallNumbers


class MarkedJson:
    """
    Reads ``<tool_call>{"name": …, "arguments": {…}}</tool_call>``.

    Each call is told once it is whole. What stands between two marks and is no call is content,
    marks and all. A call that lacks its closing mark counts where its JSON is whole.
    """

    def __init__(self, form: ToolCallForm, numbers: CallNumbers) -> None:
        self._open = next(piece for piece, is_mark in form.pieces(form.call_begin) if is_mark)
        self._numbers = numbers
        self._opening: Stretch | None = None
        self._body: list[Stretch] = []
        self._quotes = JsonQuotes()

    @property
    def is_in_string(self) -> bool:
        """Whether the text so far ends inside a JSON string of a call."""
        return self._opening is not None and self._quotes.is_open

    def read(self, text: Stretch) -> list[CallEvent]:
        """What this text makes certain."""
        if self._opening is None:
            return [text]
        self._body.append(text)
        self._quotes.push(text.text)
        return []

    def read_mark(self, mark: Stretch) -> list[CallEvent]:
        """What this mark, whole, makes certain."""
        if mark.text == self._open:
            events = self._close([])
            self._opening = mark
            return events
        return [mark] if self._opening is None else self._close([mark])

    def finish(self) -> list[CallEvent]:
        """What was held back, at the end of the answer."""
        return self._close([])

    def _close(self, closing: list[Stretch]) -> list[CallEvent]:
        opening, body = self._opening, self._body
        self._opening, self._body, self._quotes = None, [], JsonQuotes()
        if opening is None:
            return []
        call = read_call("".join([stretch.text for stretch in body]))
        if call is None:
            return [joined([opening, *body, *closing])]
        return [self._numbers.begin(*call), CallEnd()]
