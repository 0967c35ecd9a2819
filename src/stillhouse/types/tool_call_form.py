"""Describes the form of tool calls; grammars and parsers are made from it."""

from __future__ import annotations

import re
from dataclasses import dataclass

#: Most calls in one answer, where a form allows several.
MAX_CALLS = 16


@dataclass(frozen=True, slots=True)
class ToolCallForm:
    """
    The form in which one family of models writes tool calls.

    An answer with calls is some text, which may be empty, and then::

        begin  call  separator  call …  end
        call = call_begin  NAME  before_arguments  ARGUMENTS  call_end

    NAME is the function's name, made of letters, digits, ``_``, ``.`` and ``-``, so that it needs
    no escapes anywhere; ARGUMENTS is a JSON object.

    Args:
        begin: Before the first call.
        call_begin: Before each name.
        before_arguments: Between a name and its arguments.
        call_end: After each call's arguments.
        separator: Between two calls.
        end: After the last call.
        tags: The pieces of all those texts that are one token each, where the vocabulary has such
            an added token; where it has none, they are written as ordinary text.
        max_calls: Most calls in one answer.

    """

    call_begin: str
    before_arguments: str
    call_end: str
    begin: str = ""
    separator: str = ""
    end: str = ""
    tags: tuple[str, ...] = ()
    max_calls: int = MAX_CALLS

    @property
    def opening(self) -> str:
        """The text before the first name of every answer with calls."""
        return self.begin + self.call_begin

    def pieces(self, text: str) -> list[tuple[str, bool]]:
        """Cuts *text*, one of the form's own, at the tags; returns whether each piece is a tag."""
        if not self.tags:
            return [(text, False)] if text else []
        parts = re.split("(" + "|".join(map(re.escape, self.tags)) + ")", text)
        return [(part, part in self.tags) for part in parts if part]
