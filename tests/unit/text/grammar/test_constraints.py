"""Portable constraints: what an engine without llguidance is given."""

from __future__ import annotations

import pytest

from stillhouse.text.families.tool_call_forms import HERMES_CALLS, LLAMA3_CALLS
from stillhouse.text.grammar.constraints import format_constraint, tool_call_constraint
from stillhouse.types.constraint import JsonSchemaConstraint, RegexConstraint, ToolArguments
from stillhouse.types.messages import Tool, ToolChoice, ToolMode
from stillhouse.types.response_format import JsonObjectFormat, JsonSchemaFormat, RegexFormat

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
NOTHING = {"type": "object", "properties": {}, "additionalProperties": False}


@pytest.mark.parametrize(
    ("response_format", "expected"),
    [
        (JsonObjectFormat(), JsonSchemaConstraint({"type": "object"})),
        (JsonSchemaFormat(CITY), JsonSchemaConstraint(CITY)),
        (JsonSchemaFormat({**CITY, "title": "A city"}), JsonSchemaConstraint(CITY)),
        (RegexFormat("[a-z]+"), RegexConstraint("[a-z]+")),
    ],
)
def test_a_format_is_a_constraint_without_anything_of_llguidance(response_format, expected):
    """Schemas carry no ``x-guidance`` and no annotations, and expressions are as they came."""
    assert expected == format_constraint(response_format)


def test_a_required_call_names_its_tool_and_its_arguments():
    """Of several tools the chosen one is left, with the schema of its arguments."""
    tools = [Tool("weather", parameters=CITY, is_strict=True), Tool("stop")]

    constraint = tool_call_constraint(tools, ToolChoice(ToolMode.REQUIRED, "weather"), HERMES_CALLS)

    assert constraint is not None
    assert (ToolArguments("weather", CITY, is_strict=True),) == constraint.tools
    assert (True, HERMES_CALLS.max_calls, None) == (
        *(constraint.is_required, constraint.max_calls),
        constraint.text,
    )


def test_optional_calls_keep_the_format_of_the_text_beside_them():
    """Where a call is the model's choice, an answer without one has the response format."""
    choice = ToolChoice(ToolMode.AUTO, is_parallel=False)

    constraint = tool_call_constraint(
        [Tool("stop")], choice, HERMES_CALLS, text_format=RegexFormat("ok")
    )

    assert constraint is not None
    assert (ToolArguments("stop", NOTHING, is_strict=True),) == constraint.tools
    assert (False, 1, RegexConstraint("ok")) == (
        *(constraint.is_required, constraint.max_calls),
        constraint.text,
    )


@pytest.mark.parametrize("mode", [ToolMode.AUTO, ToolMode.NONE])
def test_tools_that_are_not_strict_constrain_nothing(mode):
    """An answer is free where no call is required and no tool is strict."""
    assert tool_call_constraint([Tool("stop")], ToolChoice(mode), LLAMA3_CALLS) is None
