"""The filters that chat templates may use, each with a bound on the text that it makes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jinja2
from jinja2.exceptions import SecurityError
from jinja2.filters import FILTERS
from jinja2.runtime import Context
from jinja2.utils import Namespace

from stillhouse.text.prompt.budget import MAX_TEXT_CHARS, budget_of

#: The context's key of the function that writes JSON; no identifier, as `BUDGET_KEY`.
JSON_KEY = "json writer"

# What chat templates use, without those that make long text from a small number (center, indent,
# format, wordwrap, ...), break out of plain text (safe, xmlattr, ...) or are not deterministic.
ALLOWED_FILTERS = (
    "abs",
    "capitalize",
    "count",
    "d",
    "default",
    "dictsort",
    "first",
    "float",
    "groupby",
    "int",
    "items",
    "join",
    "last",
    "length",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "select",
    "selectattr",
    "sort",
    "string",
    "title",
    "trim",
    "unique",
    "upper",
)
TEXT_FILTERS = ("capitalize", "lower", "string", "title", "trim", "upper")


def bounded_filters() -> dict[str, Callable[..., Any]]:
    """Returns the filters by the names that templates use."""
    filters = {name: FILTERS[name] for name in ALLOWED_FILTERS}
    filters |= {"join": _join, "replace": _replace, "tojson": _tojson}
    return filters | {name: _of_text(FILTERS[name]) for name in TEXT_FILTERS}


def as_text(value: Any) -> str:
    """Returns *value* as text; refuses containers."""
    refuse_container(value)
    return str(value)


def refuse_container(value: Any) -> None:
    """Refuses containers: a list that holds itself twice, and so on, is endless as a text."""
    if isinstance(value, list | tuple | Mapping | Namespace):
        raise SecurityError("a list or object in the template can be written by tojson alone")


def _of_text(jinja_filter: Callable[..., Any]) -> Callable[..., Any]:
    def checked(value: Any, *args: Any, **kwargs: Any) -> Any:
        refuse_container(value)
        return jinja_filter(value, *args, **kwargs)

    return checked


def text_length(value: Any) -> int:
    """Returns the length of a text or list, 0 of anything else."""
    return len(value) if isinstance(value, str | list | tuple) else 0


def _check_length(length: int) -> None:
    if length > MAX_TEXT_CHARS:
        raise SecurityError(f"a text in the template exceeds {MAX_TEXT_CHARS} characters")


def _join(values: Sequence[Any], separator: str = "", attribute: str | None = None) -> str:
    fields = [value[attribute] for value in values] if attribute else values
    texts = [as_text(value) for value in fields]
    _check_length(sum(map(len, texts)) + len(separator) * len(texts))
    return separator.join(texts)


def _replace(text: str, old: str, new: str) -> str:
    refuse_container(text)
    _check_length(len(text) + (len(text) + 1) * len(new))
    return str(text).replace(old, new)


@jinja2.pass_context
def _tojson(  # noqa: PLR0913, PLR0917  (the parameters are those of transformers)
    context: Context,
    value: Any,
    ensure_ascii: bool = False,  # noqa: FBT001, FBT002  (as above)
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,  # noqa: FBT001, FBT002  (as above)
) -> Any:
    """Writes JSON as transformers does: plain characters, no HTML escapes."""
    if indent is not None and not 0 <= indent <= 8:
        raise SecurityError("tojson indents by at most 8")
    if separators is not None and max(map(len, separators)) > 8:
        raise SecurityError("tojson separates by at most 8 characters")
    encoder = json.JSONEncoder(
        ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )
    # Written whole, without indents, it is as fast as it gets and not much longer than its text.
    write = _write_whole if indent is None else _write_in_parts
    text = context.parent[JSON_KEY](value, partial(write, encoder))
    budget_of(context).spend_text(len(text))
    return text


def _write_whole(encoder: json.JSONEncoder, value: Any, max_chars: int) -> str:
    text = encoder.encode(value)
    if len(text) > max_chars:
        raise OverflowError
    return text


def _write_in_parts(encoder: json.JSONEncoder, value: Any, max_chars: int) -> str:
    parts: list[str] = []
    for part in encoder.iterencode(value):
        max_chars -= len(part)
        if max_chars < 0:
            raise OverflowError
        parts.append(part)
    return "".join(parts)
