"""Turns pydantic's validation errors into our own, with the field and its value."""

from __future__ import annotations

import json

from pydantic import ValidationError

from stillhouse.errors import InvalidRequestError

_MAX_SHOWN = 80
_ENCODER = json.JSONEncoder(ensure_ascii=False, default=str)


def first_error(error: ValidationError) -> InvalidRequestError:
    """Returns pydantic's first finding as an error for the client."""
    fault = error.errors(include_url=False)[0]
    if fault["type"] == "json_invalid":
        return InvalidRequestError(f"The request body is not valid JSON: {fault['msg']}")
    param = ".".join(str(part) for part in fault["loc"]) or None
    given = "" if fault["type"] == "missing" else f", got {brief(fault['input'])}"
    message = fault["msg"].removeprefix("Value error, ")
    return InvalidRequestError(f"{param or 'body'}: {message}{given}", param=param)


def brief(value: object) -> str:
    """Returns the first characters of a client's value."""
    text = ""
    for piece in _ENCODER.iterencode(value):  # lazily: the value may have megabytes
        text += piece
        if len(text) > _MAX_SHOWN:
            return text[:_MAX_SHOWN] + "…"
    return text
