"""Parses JSON of request bodies strictly, and encodes parts of it again."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from typing import Any, NoReturn

import msgspec

from stillhouse.errors import InvalidRequestError

#: More than any request needs; counted before parsing in bodies long enough to hold many, as a
#: million empty lists take a second to build, in which nobody else is served.
MAX_KEYS = 50_000
MAX_BRACKETS = 50_000
MAX_VALUES = 300_000  # the longest prompts may be token ids
LONG_BODY_BYTES = 1 << 18
BEGINNING_BYTES = 1 << 21
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def parse_json(body: bytes, *, parse_float: Callable[[str], Any] = float) -> Any:
    """
    The value in *body*.

    Args:
        parse_float: What becomes of a number with a point or an exponent.

    Raises:
        InvalidRequestError: It is no JSON in UTF-8 (RFC 8259), nested too deeply, names a key
            twice, or holds NaN, half of a surrogate pair, or far too many keys or values.

    """
    # Strings are cut out only where there may be too much, as that takes its time.
    if len(body) > LONG_BODY_BYTES and _excess(body):
        # What has too much of something mostly has it in its beginning already.
        for part in (body[:BEGINNING_BYTES], body):
            if excess := _excess(_STRING.sub(b"", part)):
                raise _invalid(f"it has more than {excess}")
    try:
        value = json.loads(
            body.decode(),
            object_pairs_hook=_object,
            parse_constant=_refuse_constant,
            parse_float=parse_float,
        )
    except UnicodeDecodeError as error:
        raise _invalid(f"byte {error.start} is not UTF-8") from error
    except RecursionError as error:
        raise _invalid("it is nested too deeply") from error
    except ValueError as error:  # a JSONDecodeError, or an integer of thousands of digits
        raise _invalid(str(error)) from error
    if _SURROGATE.search(body):
        _refuse_half_pairs(value)
    return value


def _excess(structure: bytes) -> str | None:
    """What there is too much of, where strings have been left out; None where nothing can be."""
    if structure.count(b":") > MAX_KEYS:
        return f"{MAX_KEYS} keys"
    if structure.count(b"[") + structure.count(b"{") > MAX_BRACKETS:
        return f"{MAX_BRACKETS} lists and objects"
    return f"{MAX_VALUES} values" if structure.count(b",") > MAX_VALUES else None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        (twice, _), *_ = Counter(key for key, _ in pairs).most_common(1)
        raise _invalid(f"the key {twice[:80]!r} is given twice")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise _invalid(f"{name} is not a number in JSON")


def _refuse_half_pairs(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError as error:
        raise _invalid(
            "it holds half of a surrogate pair; right would be whole characters"
        ) from error
    except RecursionError as error:  # writing needs a little more of the stack than reading
        raise _invalid("it is nested too deeply") from error


def _invalid(reason: str) -> InvalidRequestError:
    return InvalidRequestError(f"The request body is not valid JSON: {reason}")


def json_text(value: object, *, param: str) -> str:
    """
    *value* as it is commonly written.

    Args:
        param: Where it stands in the body, for messages.

    Raises:
        InvalidRequestError: It is nested too deeply to be written.

    """
    try:
        return json.dumps(value, ensure_ascii=False)
    except RecursionError as error:
        raise _too_deep(param) from error


def raw_json(value: object, *, param: str) -> msgspec.Raw:
    """
    *value* written already, so that nothing about it can fail when an answer is written.

    Raises:
        InvalidRequestError: It is nested too deeply to be written.

    """
    try:
        return msgspec.Raw(msgspec.json.encode(value))
    except RecursionError as error:
        raise _too_deep(param) from error


def _too_deep(param: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"{param} is nested too deeply; right would be at most some hundred levels", param=param
    )
