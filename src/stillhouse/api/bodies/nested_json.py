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
