"""An answer that is, as a whole, one tool call in JSON, as Llama 3 writes them."""

from __future__ import annotations

from collections.abc import Collection

from stillhouse.text.parsing.text_span import TextSpan, joined
from stillhouse.text.parsing.tool_calls.call_json import ARGUMENT_KEYS, read_call
from stillhouse.text.parsing.tool_calls.syntax import CallEnd, CallEvent, CallNumbers

_FIRST_KEYS = ("name", "type", *ARGUMENT_KEYS)


class BareJson:
    """
    Reads an answer that is, as a whole, ``{"name": …, "parameters": {…}}``.

    An answer that cannot become a call of one of the request's tools is emitted as it streams; one
    that can is held back to its end. ``<|python_tag|>`` before the call is a control token, and has
    never been text.

    Args:
        names: What the request's tools are called.

    """

    is_in_string = False  # there are no tags

    def __init__(self, names: Collection[str], numbers: CallNumbers) -> None:
        self._names = names
        self._numbers = numbers
        self._held: list[TextSpan] = []
        self._may_be_call: bool | None = None

    def read(self, text: TextSpan) -> list[CallEvent]:
        """Reads text and returns the events that it completes."""
        if self._may_be_call is False:
            return [text]
        self._held.append(text)
        if self._may_be_call is None and text.text.strip():  # white space alone decides nothing
            held = joined(self._held)
            self._may_be_call = _may_be_call(held.text.lstrip(), self._names)
            self._held = [held] if self._may_be_call is not False else []
            return [] if self._held else [held]
        return []

    def read_tag(self, tag: TextSpan) -> list[CallEvent]:
        """Reads a whole tag and returns the events that it completes."""
        return self.read(tag)

    def finish(self) -> list[CallEvent]:
        """Returns the events held back, at the end of the answer."""
        held, self._held = joined(self._held), []
        call = read_call(held.text)
        if call is None or call[0] not in self._names:
            return [held] if held.text else []
        return [self._numbers.begin(*call), CallEnd()]


def _may_be_call(text: str, names: Collection[str]) -> bool | None:
    """Returns whether *text*, which may go on, starts a call of *names*; None if unknown yet."""
    if not text:
        return None
    body = text[1:].lstrip()
    if text[0] != "{" or body[:1] not in {"", '"'}:
        return False
    key, quote, rest = body[1:].partition('"')
    if not quote:
        return None if any(first.startswith(key) for first in _FIRST_KEYS) else False
    return _may_be_named(rest, names) if key == "name" else (key in _FIRST_KEYS)


def _may_be_named(after_key: str, names: Collection[str]) -> bool | None:
    value = after_key.lstrip().removeprefix(":").lstrip()
    if value[:1] not in {"", '"'}:
        return False
    name, quote, _ = value[1:].partition('"')
    if quote:
        return name in names
    return None if any(known.startswith(name) for known in names) else False
