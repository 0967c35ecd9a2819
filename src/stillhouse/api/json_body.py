"""JSON from outside: one value, without what parsers disagree about."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from itertools import islice
from typing import Any, NoReturn

from stillhouse.errors import InvalidRequestError

#: More than any request needs; counted before parsing in bodies long enough to hold many.
MAX_KEYS = 50_000
LONG_BODY_BYTES = 1 << 18
_KEY = re.compile(rb'[^\\]"[ \t\r\n]*:')
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def parse_json(body: bytes, *, parse_float: Callable[[str], Any] = float) -> Any:
    """
    The value in *body*.

    Args:
        parse_float: What becomes of a number with a point or an exponent.

    Raises:
        InvalidRequestError: It is no JSON in UTF-8 (RFC 8259), nested too deeply, names a key
            twice, or holds NaN, half of a surrogate pair, or far too many keys.

    """
    if len(body) > LONG_BODY_BYTES and any(islice(_KEY.finditer(body), MAX_KEYS, None)):
        raise _invalid(f"it has more than {MAX_KEYS} keys")
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
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise _invalid(
            "it holds half of a surrogate pair; right would be whole characters"
        ) from error


def _invalid(reason: str) -> InvalidRequestError:
    return InvalidRequestError(f"The request body is not valid JSON: {reason}")
