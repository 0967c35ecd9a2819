"""What is checked of a regular expression from outside, before any compiler sees it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from stillhouse.errors import InvalidRequestError

MAX_REPETITION = 1000

_LOOK_AROUND = ("(?=", "(?!", "(?<=", "(?<!")
_BACKREFERENCE = re.compile(r"\\[1-9]|\\[kg][<{']|\(\?P=")
_REPETITION = re.compile(r"\{\s*(\d*)\s*(?:,\s*(\d*)\s*)?\}")
#: A bracket that closes right after it opened (and after ^) stands for itself.
_CLASS_OPENING = re.compile(r"\^?\]?")


def check_regex(regex: str, *, where: str, max_length: int, param: str) -> None:
    """
    Refuse what is too large, or what no linear-time matcher can do.

    Whether the rest is right is the compiler's to say, as the syntax is its own: that of Rust's
    regex crate, in which whole texts are matched.

    Args:
        where: Names the expression in messages.
        max_length: In characters.

    Raises:
        InvalidRequestError: Of *param*: too long, a repetition of more than `MAX_REPETITION`,
            look-around or a backreference.

    """
    if len(regex) > max_length:
        raise InvalidRequestError(
            f"{where} has {len(regex)} characters; right would be at most {max_length}",
            param=param,
        )
    for piece in _operators(regex):
        _check_operator(piece, where=where, param=param)


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


def _operators(regex: str) -> Iterator[str]:
    """The rest of the text from each character that may be an operator: none within ``[…]``."""
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
        index += 2 if letter == "\\" else 1
