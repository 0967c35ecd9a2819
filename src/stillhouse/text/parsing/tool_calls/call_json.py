"""Cuts names and arguments out of tool calls in JSON, as the model wrote them."""

from __future__ import annotations

import json
import re
from typing import NoReturn

#: What a function may be called (OpenAI's own names, and dots).
NAME = re.compile(r"[A-Za-z0-9_.-]+")

#: The arguments of a call without any: clients parse them as JSON in any case.
NO_ARGUMENTS = "{}"

ARGUMENT_KEYS = ("arguments", "parameters")

_SPACE = r"[ \t\n\r]*"
_OPEN = re.compile(_SPACE + r"\{" + _SPACE + '(?=")')
_COLON = re.compile(_SPACE + ":" + _SPACE)
_COMMA = re.compile(_SPACE + "," + _SPACE + '(?=")')
_CLOSE = re.compile(_SPACE + r"\}" + _SPACE + r"\Z")
_QUOTE = re.compile(r'\\(.?)|"', re.DOTALL)


def read_call(text: str) -> tuple[str, str] | None:
    """
    Reads name and arguments of a call, ``{"name": …, "arguments": {…}}``; None where it is none.

    The arguments are a slice of *text*, so that spaces, order and numbers stay as they were
    written. Arguments that were written as a JSON string are that string's text.
    """
    try:
        members = _members(text)
        name = json.loads(members["name"])
        written = [members[key] for key in ARGUMENT_KEYS if key in members]
        arguments = _arguments(written[0]) if written else NO_ARGUMENTS
    except (ValueError, KeyError, RecursionError):  # RecursionError: nested without end
        return None
    return (name, arguments) if isinstance(name, str) and NAME.fullmatch(name) else None


def is_object(text: str) -> bool:
    """Returns whether *text* is one whole JSON object."""
    try:
        return isinstance(_DECODER.decode(text), dict)
    except (ValueError, RecursionError):
        return False


class JsonQuotes:
    """Tracks whether JSON that arrives in pieces is inside one of its strings."""

    def __init__(self) -> None:
        self.is_open = False
        self._is_escaped = False

    def push(self, text: str) -> None:
        """Adds *text*."""
        start = 1 if self._is_escaped and text else 0
        self._is_escaped = self._is_escaped and not text
        for match in _QUOTE.finditer(text, start):
            if match.group() == '"':
                self.is_open = not self.is_open
            else:
                self._is_escaped = not match.group(1)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


# Numbers stay text: thousands of digits are nothing that Python would read.
_DECODER = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=_refuse)


def _members(text: str) -> dict[str, str]:
    """An object's members, each value as it was written."""
    members: dict[str, str] = {}
    at = _end(_OPEN.match(text))
    while True:
        key, at = _DECODER.raw_decode(text, at)
        start = _end(_COLON.match(text, at))
        _, at = _DECODER.raw_decode(text, start)
        members[key] = text[start:at]
        if _CLOSE.match(text, at):
            return members
        at = _end(_COMMA.match(text, at))


def _end(match: re.Match[str] | None) -> int:
    if match is None:
        raise ValueError("not an object")
    return match.end()


def _arguments(written: str) -> str:
    if written == "null":
        return NO_ARGUMENTS
    text = json.loads(written).strip() if written.startswith('"') else written
    text.encode()  # half of a surrogate pair can be escaped in JSON, but not sent
    if not text:
        return NO_ARGUMENTS
    if not is_object(text):
        raise ValueError("not an object")
    return str(text)
