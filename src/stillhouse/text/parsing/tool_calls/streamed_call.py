"""Reads tool calls whose parts stand between tags, so that arguments can be streamed."""

from __future__ import annotations

from enum import Enum, auto

from stillhouse.text.parsing.text_span import TextSpan, joined
from stillhouse.text.parsing.tool_calls.call_json import NAME, NO_ARGUMENTS, JsonQuotes, is_object
from stillhouse.text.parsing.tool_calls.syntax import CallEnd, CallEvent, CallNumbers
from stillhouse.types.tool_call_form import ToolCallForm


class _At(Enum):
    CONTENT = auto()
    LIST = auto()  # behind the tag that opens the list of calls
    NAME = auto()
    BEFORE_ARGUMENTS = auto()
    ARGUMENTS = auto()
    BETWEEN_CALLS = auto()


class StreamedCall:
    """
    Reads DeepSeek's calls: a name and JSON arguments, with tags before, between and after.

    A call is emitted once its arguments have begun; from then on they are streamed, without the
    white space around them, even if they turn out to be broken. Text that is no call up to there
    is content, tags included.
    """

    def __init__(self, form: ToolCallForm, numbers: CallNumbers) -> None:
        self._form = form
        self._numbers = numbers
        self._at = _At.CONTENT
        self._raw: list[TextSpan] = []  # of what may still turn out to be no call
        self._name = ""
        self._arguments: list[str] = []
        self._space: list[str] = []
        self._quotes = JsonQuotes()

    @property
    def is_in_string(self) -> bool:
        """Whether the text so far ends inside a JSON string of a call."""
        return self._at is _At.ARGUMENTS and self._quotes.is_open

    def read(self, text: TextSpan) -> list[CallEvent]:
        """Reads text and returns the events that it completes."""
        if self._at is _At.ARGUMENTS:
            return self._go_on(text.text)
        if self._at in {_At.CONTENT, _At.BETWEEN_CALLS}:
            return [text]
        if self._at is _At.NAME or not text.text.strip():
            self._raw.append(text)
            return []
        if self._at is _At.BEFORE_ARGUMENTS and text.text.lstrip().startswith("{"):
            return self._begin(text.text.lstrip())
        return self._give_up(text)

    def read_tag(self, tag: TextSpan) -> list[CallEvent]:
        """Reads a whole tag and returns the events that it completes."""
        form = self._form
        if self._at is _At.ARGUMENTS:
            return self._end_arguments(tag)
        if tag.text in {form.begin, form.call_begin}:
            return self._open(tag)
        if self._at is _At.NAME and tag.text == form.before_arguments:
            return self._end_name(tag)
        if self._at is _At.BEFORE_ARGUMENTS and tag.text == form.call_end:
            return [*self._begin(NO_ARGUMENTS), *self._end_arguments(tag)]
        if self._at is _At.BETWEEN_CALLS and tag.text == form.end:
            self._at = _At.CONTENT
            return []
        return self._give_up(tag)

    def finish(self) -> list[CallEvent]:
        """Returns the events held back, at the end of the answer."""
        if self._at is not _At.ARGUMENTS:
            return self._give_up()
        self._at = _At.CONTENT
        return [CallEnd()] if is_object("".join(self._arguments)) else []

    def _open(self, tag: TextSpan) -> list[CallEvent]:
        """Begins a list of calls, or a call, which may be the first of the list just begun."""
        is_list = tag.text == self._form.begin
        events = [] if self._at is _At.LIST and not is_list else self._give_up()
        self._raw.append(tag)
        self._at = _At.LIST if is_list else _At.NAME
        return events

    def _end_name(self, tag: TextSpan) -> list[CallEvent]:
        _, _, name = joined(self._raw).text.rpartition(self._form.call_begin)
        if not NAME.fullmatch(name.strip()):
            return self._give_up(tag)
        self._raw.append(tag)
        self._name = name.strip()
        self._at = _At.BEFORE_ARGUMENTS
        return []

    def _begin(self, arguments: str) -> list[CallEvent]:
        self._at = _At.ARGUMENTS
        self._raw, self._arguments, self._space = [], [], []
        self._quotes = JsonQuotes()
        return [self._numbers.begin(self._name, self._certain(arguments))]

    def _go_on(self, text: str) -> list[CallEvent]:
        certain = self._certain(text)
        return [self._numbers.go_on(certain)] if certain else []

    def _end_arguments(self, tag: TextSpan) -> list[CallEvent]:
        if tag.text == self._form.before_arguments:
            return self._go_on(tag.text)
        self._at = _At.BETWEEN_CALLS
        # A tag that stands where the call's own end should be, ends the call all the same.
        return [CallEnd(), *([] if tag.text == self._form.call_end else self.read_tag(tag))]

    def _certain(self, text: str) -> str:
        """Returns the arguments so far that cannot be the white space behind them."""
        self._quotes.push(text)
        written = text.rstrip()
        certain = "".join([*self._space, written]) if written else ""
        if written:
            self._arguments.append(certain)
            self._space = []
        if written != text:
            self._space.append(text[len(written) :])
        return certain

    def _give_up(self, *last: TextSpan) -> list[CallEvent]:
        raw, self._raw = joined([*self._raw, *last]), []
        self._at = _At.CONTENT
        return [raw] if raw.text else []
