"""JSON from a request that goes on as text: into a prompt, or back to the client."""

from __future__ import annotations

import json

import msgspec

from stillhouse.errors import InvalidRequestError


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
        raise InvalidRequestError(f"{param} is nested too deeply", param=param) from error


def raw_json(value: object, *, param: str) -> msgspec.Raw:
    """
    *value* written already: msgspec has no integers of more than 64 bits, which clients may send.

    Raises:
        InvalidRequestError: It is nested too deeply to be written.

    """
    return msgspec.Raw(json_text(value, param=param).encode())
