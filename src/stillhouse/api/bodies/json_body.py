"""Parses JSON of request bodies strictly, and encodes parts of it again."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from typing import Any, NoReturn

import msgspec

from stillhouse.errors import InvalidRequestError

#: More than any request needs. Long bodies are counted before parsing: a million empty lists take a
#: second to build, which would block every other request.
MAX_KEYS = 50_000
MAX_BRACKETS = 50_000
MAX_VALUES = 300_000  # long prompts may be token ids
LONG_BODY_BYTES = 1 << 18
BEGINNING_BYTES = 1 << 21
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def parse_json(body: bytes, *, parse_float: Callable[[str], Any] = float) -> Any:
    """
    Parses the JSON value in *body*.

    Args:
        parse_float: Converts a number with a point or an exponent.

    Raises:
        InvalidRequestError: It is not JSON in UTF-8 (RFC 8259), is nested too deeply, repeats a
        key, or has NaN, half of a surrogate pair, or far too many keys or values.

    """
    # Removing strings takes time, and is done only if the body may have too much.
    if len(body) > LONG_BODY_BYTES and _excess(body):
        # A body with too much mostly has too much in its beginning.
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
    """Returns the bound that JSON without its strings exceeds; None if it exceeds none."""
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
    except RecursionError as error:  # encoding needs a little more of the stack than parsing
        raise _invalid("it is nested too deeply") from error


def _invalid(reason: str) -> InvalidRequestError:
    return InvalidRequestError(f"The request body is not valid JSON: {reason}")


def json_text(value: object, *, param: str) -> str:
    """
    Encodes *value* as JSON text in the common style.

    Args:
        param: Its path in the body, for error texts.

    Raises:
        InvalidRequestError: It is nested too deeply to be encoded.

    """
    try:
        return json.dumps(value, ensure_ascii=False)
    except RecursionError as error:
        raise _too_deep(param) from error


def raw_json(value: object, *, param: str) -> msgspec.Raw:
    """
    Encodes *value* in advance, so that encoding cannot fail in the response.

    Raises:
        InvalidRequestError: It is nested too deeply to be encoded.

    """
    try:
        return msgspec.Raw(msgspec.json.encode(value))
    except RecursionError as error:
        raise _too_deep(param) from error


def _too_deep(param: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"{param} is nested too deeply; right would be at most some hundred levels", param=param
    )
