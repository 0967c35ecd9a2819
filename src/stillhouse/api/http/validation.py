"""What is wrong with a body, in one sentence that names the field."""

from __future__ import annotations

import json

from pydantic import ValidationError

from stillhouse.errors import InvalidRequestError

_MAX_SHOWN = 80
_ENCODER = json.JSONEncoder(ensure_ascii=False, default=str)


def first_error(error: ValidationError) -> InvalidRequestError:
    """The first thing that pydantic found, as the client is told it."""
    fault = error.errors(include_url=False)[0]
    if fault["type"] == "json_invalid":
        return InvalidRequestError(f"The request body is not valid JSON: {fault['msg']}")
    param = ".".join(str(part) for part in fault["loc"]) or None
    given = "" if fault["type"] == "missing" else f", got {brief(fault['input'])}"
    said = fault["msg"].removeprefix("Value error, ")
    return InvalidRequestError(f"{param or 'body'}: {said}{given}", param=param)


def brief(value: object) -> str:
    """The beginning of a value from outside."""
    text = ""
    for piece in _ENCODER.iterencode(value):  # lazily: all of it may have megabytes
        text += piece
        if len(text) > _MAX_SHOWN:
            return text[:_MAX_SHOWN] + "…"
    return text
