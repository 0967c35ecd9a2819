"""Grammars of response formats and of tools, in one step."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from stillhouse.text.grammar.constraints import format_constraint, tool_call_constraint
from stillhouse.text.grammar.grammar import write_grammar
from stillhouse.types.messages import Tool, ToolChoice
from stillhouse.types.response_format import ResponseFormat
from stillhouse.types.tool_call_form import ToolCallForm


def grammar_of(response_format: ResponseFormat) -> str:
    """Returns the grammar of answers in a response format."""
    return write_grammar(format_constraint(response_format), lambda _: None)


def tools_grammar(
    tools: Sequence[Tool],
    choice: ToolChoice,
    form: ToolCallForm,
    token_id: Callable[[str], int | None],
    *,
    text_format: ResponseFormat | None = None,
) -> str | None:
    """Returns the grammar of answers that call tools; None where any answer will do."""
    constraint = tool_call_constraint(tools, choice, form, text_format=text_format)
    return None if constraint is None else write_grammar(constraint, token_id)
