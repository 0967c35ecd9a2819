"""Checks a regular expression of a request, before any compiler sees it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from stillhouse.errors import InvalidRequestError

MAX_REPETITION = 1000
#: Characters with every repetition written out, those in repeated groups as often as these. An
#: engine holds 20,000 states of an expression, and with more of them a token takes it 0.1 s.
MAX_WRITTEN_OUT = 10_000

_LOOK_AROUND = ("(?=", "(?!", "(?<=", "(?<!")
_BACKREFERENCE = re.compile(r"\\[1-9]|\\[kg][<{']|\(\?P=")
_REPETITION = re.compile(r"\{\s*(\d*)\s*(?:,\s*(\d*)\s*)?\}")
#: A bracket that closes right after it opened (and after ^) stands for itself.
_CLASS_OPENING = re.compile(r"\^?\]?")
_ESCAPE = re.compile(r"\\(?:[xuUpP]\{[^}]*\}|.)?", re.DOTALL)
_GROUP_OPENING = re.compile(r"\((?:\?(?:P?<\w*>|[a-zA-Z-]*(?::|(?=\)))))?")
#: White space and comments between a group and its count, as with the flag x, are as nothing.
_MAY_BE_VERBOSE = re.compile(r"\(\?[a-zA-Z]*x")


def check_regex(regex: str, *, where: str, max_length: int, param: str) -> None:
    """
    Refuses an expression that is too large, or that no linear-time matcher can match.

    Whether the rest is right is the compiler's to say, as the syntax is its own: that of Rust's
    regex crate, in which whole texts are matched.

    Args:
        where: Names the expression in messages.
        max_length: In characters.

    Raises:
        InvalidRequestError: Of *param*: too long, a repetition of more than `MAX_REPETITION`, more
            than `MAX_WRITTEN_OUT` characters in repetitions of repetitions, look-around or a
            backreference.

    """
    if len(regex) > max_length:
        raise InvalidRequestError(
            f"{where} has {len(regex)} characters; right would be at most {max_length}",
            param=param,
        )
    for piece in _operators(regex):
        _check_operator(piece, where=where, param=param)
    if _written_out(regex) > MAX_WRITTEN_OUT:
        raise InvalidRequestError(
            f"{where} has more than {MAX_WRITTEN_OUT} characters when its repetitions, and those "
            "within them, are written out; right would be smaller numbers, or '+' and '*'",
            param=param,
        )


def _check_operator(piece: str, *, where: str, param: str) -> None:
    if piece.startswith(_LOOK_AROUND):
        raise InvalidRequestError(
            f"{where} looks around ({piece[:4]!r}), which is not supported; right would be an "
            "expression that says what the text is, not what stands beside it",
            param=param,
        )
    if match := _BACKREFERENCE.match(piece):
        raise InvalidRequestError(
            f"{where} refers back to a group ({match.group()!r}), which is not supported; right "
            "would be an expression without backreferences",
            param=param,
        )
    if match := _REPETITION.match(piece):
        count = max((int(digits) for digits in match.groups() if digits), default=0)
        if count > MAX_REPETITION:
            raise InvalidRequestError(
                f"{where} repeats something {count} times; right would be at most {MAX_REPETITION}",
                param=param,
            )


def _written_out(regex: str) -> int:
    """
    Returns how many characters, or classes of them, *regex* has without repetitions.

    Alternatives are added up, ``*`` and ``+`` repeat nothing, and of ``{m,n}`` it is the larger.
    Counts no further than beyond `MAX_WRITTEN_OUT`, and rather too much than too little.
    """
    is_verbose = _MAY_BE_VERBOSE.search(regex) is not None
    groups: list[int] = []  # what stands in each open group before the one that is read
    outside = 0  # of the group that is read: their sum
    before, last = 0, 0  # inside: all before its last atom, and that
    for piece in _operators(regex):
        if piece[0] == "(":
            groups.append(before + last)
            outside += groups[-1]
            before = last = 0
        elif piece[0] == ")" and groups:
            outside -= groups[-1]
            before, last = groups.pop(), before + last
        elif match := _REPETITION.match(piece):
            last *= max(int(digits or 1) for digits in (*match.groups(), "1"))
            if is_verbose:
                before, last = 0, before + last
        elif piece[0] not in "?*+|":
            before, last = (before, last + 1) if is_verbose else (before + last, 1)
        if before + last + outside > MAX_WRITTEN_OUT:
            break
    return before + last + outside


def _operators(regex: str) -> Iterator[str]:
    """
    The rest of the text from each character that may be an operator: none within ``[…]``.

    What is one atom or the head of a group is one of them, too.
    """
    class_depth = index = 0
    while index < len(regex):
        letter = regex[index]
        if class_depth == 0:
            yield regex[index : index + 16]
        if letter == "[":
            class_depth += 1
            if opening := _CLASS_OPENING.match(regex, index + 1):
                index = opening.end() - 1
        elif letter == "]":
            class_depth = max(class_depth - 1, 0)
        index = _next_index(regex, index, is_in_class=class_depth > 0)


def _next_index(regex: str, index: int, *, is_in_class: bool) -> int:
    if regex[index] == "\\" and (escape := _ESCAPE.match(regex, index)):
        return escape.end()
    for pattern in () if is_in_class else (_GROUP_OPENING, _REPETITION):
        if match := pattern.match(regex, index):
            return match.end()
    return index + 1
