"""Runs chat templates in a sandbox: their calls, their work and their text are bounded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jinja2
import jinja2.ext
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from stillhouse.text.prompt.budget import budget_of
from stillhouse.text.prompt.filters import as_text, bounded_filters, refuse_container, text_length

MAX_RANGE = 4096

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
        self.filters = bounded_filters()

    def parse_metered(self, source: str) -> nodes.Template:
        """Returns the template's syntax tree, with a step counted wherever it can repeat itself."""
        tree = _Metering(self).visit(self.parse(source))
        assert isinstance(tree, nodes.Template)
        return tree

    def step(self, context: Context) -> bool:
        """Counts a step of a metered template; true, so that a loop's condition can call it."""
        budget_of(context).spend_round()
        return True

    def concatenate(self, context: Context, *values: Any) -> str:
        """Joins texts in place of ``a ~ b`` in a metered template."""
        texts = [as_text(value) for value in values]
        budget_of(context).spend_text(sum(map(len, texts)))
        return "".join(texts)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Refuses arithmetic that would make something huge."""
        if operator == "+":
            budget_of(context).spend_text(text_length(left) + text_length(right))
        elif operator == "**" or not all(isinstance(v, int | float) for v in (left, right)):
            raise SecurityError(f"{operator} of {type(left).__name__} is not allowed in a template")
        elif operator == "*" and abs(left) * abs(right) > 1 << 53:
            raise SecurityError("a number in the template is too large")
        return super().call_binop(context, operator, left, right)

    def wrap_str_format(self, value: Any) -> None:  # noqa: ARG002  Jinja passes it
        """Leaves `format`, which Jinja would wrap, to `is_safe_attribute`."""
        return

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Refuses, beside what Jinja refuses, methods that make huge values of small ones."""
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


@jinja2.pass_context
def _count_written(context: Context, value: Any) -> Any:
    """Bounds each text, those gathered by ``{% set %}`` blocks and macros included."""
    refuse_container(value)
    budget_of(context).spend_text(text_length(value))
    return value


def _short_range(*args: int) -> range:
    numbers = range(*args)
    if len(numbers) > MAX_RANGE:
        raise SecurityError(f"range of more than {MAX_RANGE} numbers in the template")
    return numbers
