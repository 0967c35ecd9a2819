"""Jinja for templates from outside: what they may call, and how much they may do, is bounded."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import jinja2
import jinja2.ext
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.filters import FILTERS
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

MAX_RANGE = 4096
MAX_TEXT_CHARS = 1 << 20
BUDGET_KEY, JSON_KEY = "steps left", "json writer"
"""No identifiers, so that no template can name them."""

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
GROWING_METHODS = frozenset(
    {
        "center",
        "expandtabs",
        "format",
        "format_map",
        "join",
        "ljust",
        "replace",
        "rjust",
        "translate",
        "zfill",
    }
)

Repeating = TypeVar("Repeating", nodes.For, nodes.Macro)


class Budget:
    """
    How much one rendering may still do; owned by that rendering alone.

    Args:
        steps: About the number of rounds of loops, calls of macros and 256 characters of text.
        steps_per_round: More than 1 for long templates, as a round can copy all of its text.

    """

    def __init__(self, steps: int, *, steps_per_round: int = 1) -> None:
        self._steps = steps
        self._steps_per_round = steps_per_round

    def spend_round(self) -> None:
        """Count one round of a loop or one call of a macro."""
        self._spend(self._steps_per_round)

    def spend_text(self, num_chars: int) -> None:
        """Count a text that was put together or written."""
        if num_chars > MAX_TEXT_CHARS:
            raise SecurityError(f"a text in the template exceeds {MAX_TEXT_CHARS} characters")
        self._spend(1 + num_chars // 256)

    def _spend(self, steps: int) -> None:
        self._steps -= steps
        if self._steps < 0:
            raise SecurityError("the template does too much work for this conversation")


class TemplateSandbox(ImmutableSandboxedEnvironment):
    """
    The environment of transformers' chat templates, with a bound on their work and on their text.

    Every round of a loop, call of a macro and text put together is counted on the rendering's
    `Budget`, which stands in the context under `BUDGET_KEY`. What `tojson` writes goes through the
    function under `JSON_KEY`, which takes the value and a function that writes it.

    Args:
        functions: Functions that templates may call, besides `range`, `namespace` and `dict`.

    """

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, functions: Mapping[str, Callable[..., Any]]) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[jinja2.ext.loopcontrols],
            finalize=_count_written,
        )
        self.globals = {"namespace": Namespace, "dict": dict, "range": _short_range, **functions}
        self.filters = {name: FILTERS[name] for name in ALLOWED_FILTERS} | {
            "join": _join,
            "replace": _replace,
            "tojson": _tojson,
        }
        self.filters |= {name: _of_text(FILTERS[name]) for name in TEXT_FILTERS}

    def parse_metered(self, source: str) -> nodes.Template:
        """The template's syntax tree, with a step counted wherever it can repeat itself."""
        tree = _Metering(self).visit(self.parse(source))
        assert isinstance(tree, nodes.Template)
        return tree

    def step(self, context: Context) -> bool:
        """Called by metered templates; true, so that it can stand in a loop's condition."""
        _budget(context).spend_round()
        return True

    def concatenate(self, context: Context, *values: Any) -> str:
        """Called by metered templates in place of ``a ~ b``."""
        texts = [_as_text(value) for value in values]
        _budget(context).spend_text(sum(map(len, texts)))
        return "".join(texts)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Arithmetic that could make something huge, refused where it would."""
        if operator == "+":
            _budget(context).spend_text(_length(left) + _length(right))
        elif operator == "**" or not all(isinstance(v, int | float) for v in (left, right)):
            raise SecurityError(f"{operator} of {type(left).__name__} is not allowed in a template")
        elif operator == "*" and abs(left) * abs(right) > 1 << 53:
            raise SecurityError("a number in the template is too large")
        return super().call_binop(context, operator, left, right)

    def wrap_str_format(self, value: Any) -> None:  # noqa: ARG002  Jinja passes it
        """Jinja would allow `format` in a guise of its own; this leaves it to the next method."""
        return

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Refused besides what Jinja refuses: methods that make huge things from small ones."""
        if isinstance(obj, int | float | bytes) or attr in GROWING_METHODS:
            return False
        return super().is_safe_attribute(obj, attr, value)


class _Metering(NodeTransformer):
    def __init__(self, environment: TemplateSandbox) -> None:
        self._environment = environment

    def visit_For(self, node: nodes.For) -> nodes.For:  # noqa: N802  jinja2 looks it up by the node's name
        self.generic_visit(node)
        if node.test is not None:
            node.test = nodes.And(self._call("step", [], node), node.test, lineno=node.lineno)
        return self._step_first(node)

    def visit_Macro(self, node: nodes.Macro) -> nodes.Macro:  # noqa: N802  as above
        self.generic_visit(node)
        return self._step_first(node)

    def visit_Concat(self, node: nodes.Concat) -> nodes.Call:  # noqa: N802  as above
        self.generic_visit(node)
        return self._call("concatenate", node.nodes, node)

    def _step_first(self, node: Repeating) -> Repeating:
        step = nodes.ExprStmt(self._call("step", [], node), lineno=node.lineno)
        node.body.insert(0, step.set_environment(self._environment))
        return node

    def _call(self, method: str, args: list[nodes.Expr], node: nodes.Node) -> nodes.Call:
        call = nodes.Call(
            nodes.EnvironmentAttribute(method),
            [nodes.ContextReference(), *args],
            [],
            None,
            None,
            lineno=node.lineno,
        )
        call.set_environment(self._environment)
        return call


def _budget(context: Context) -> Budget:
    budget = context.parent[BUDGET_KEY]
    assert isinstance(budget, Budget)
    return budget


@jinja2.pass_context
def _count_written(context: Context, value: Any) -> Any:
    """Also bounds texts gathered by ``{% set %}`` blocks and macros, written nowhere yet."""
    _refuse_container(value)
    _budget(context).spend_text(_length(value))
    return value


def _as_text(value: Any) -> str:
    _refuse_container(value)
    return str(value)


def _refuse_container(value: Any) -> None:
    """A list that holds itself twice, and so on, is small in memory and endless as a text."""
    if isinstance(value, list | tuple | Mapping | Namespace):
        raise SecurityError("a list or object in the template can be written by tojson alone")


def _of_text(jinja_filter: Callable[..., Any]) -> Callable[..., Any]:
    def checked(value: Any, *args: Any, **kwargs: Any) -> Any:
        _refuse_container(value)
        return jinja_filter(value, *args, **kwargs)

    return checked


def _length(value: Any) -> int:
    return len(value) if isinstance(value, str | list | tuple) else 0


def _check_length(length: int) -> None:
    if length > MAX_TEXT_CHARS:
        raise SecurityError(f"a text in the template exceeds {MAX_TEXT_CHARS} characters")


def _short_range(*args: int) -> range:
    numbers = range(*args)
    if len(numbers) > MAX_RANGE:
        raise SecurityError(f"range of more than {MAX_RANGE} numbers in the template")
    return numbers


def _join(values: Sequence[Any], separator: str = "", attribute: str | None = None) -> str:
    fields = [value[attribute] for value in values] if attribute else values
    texts = [_as_text(value) for value in fields]
    _check_length(sum(map(len, texts)) + len(separator) * len(texts))
    return separator.join(texts)


def _replace(text: str, old: str, new: str) -> str:
    _refuse_container(text)
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
    """As in transformers: plain characters, no HTML escapes."""
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
    _budget(context).spend_text(len(text))
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


def bounded(chunks: Iterator[str], *, max_chars: int) -> str:
    """The chunks as one text; raises SecurityError as soon as it grows beyond *max_chars*."""
    parts: list[str] = []
    num_chars = 0
    for chunk in chunks:
        num_chars += len(chunk)
        if num_chars > max_chars:
            raise SecurityError("the template writes too much text for this conversation")
        parts.append(chunk)
    return "".join(parts)
