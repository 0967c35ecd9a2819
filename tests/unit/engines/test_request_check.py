"""The check of a request against an engine's capabilities, a pure function."""

from __future__ import annotations

import pytest

from stillhouse.engines.base import GenerateRequest, Grammar
from stillhouse.engines.capabilities import ALL_CONSTRAINTS, Capabilities
from stillhouse.engines.request_check import check_capabilities
from stillhouse.errors import UnsupportedFeatureError
from stillhouse.types.constraint import (
    ConstraintKind,
    JsonSchemaConstraint,
    RegexConstraint,
    ToolArguments,
    ToolCallConstraint,
)
from stillhouse.types.tool_call_form import ToolCallForm

FORM = ToolCallForm(call_begin="<", before_arguments="=", call_end=">")
CONSTRAINTS = {
    ConstraintKind.JSON_SCHEMA: (JsonSchemaConstraint({"type": "object"}), "response_format"),
    ConstraintKind.REGEX: (RegexConstraint("a+"), "response_format"),
    ConstraintKind.TOOL_CALLS: (
        ToolCallConstraint(
            FORM,
            (ToolArguments("look", {"type": "object"}, is_strict=True),),
            max_calls=1,
            is_required=True,
        ),
        "tools",
    ),
}


def request_with(**fields) -> GenerateRequest:
    return GenerateRequest("request", [1, 2], 3, **fields)


@pytest.mark.parametrize("kind", ConstraintKind)
def test_each_kind_of_constraint_is_declared_for_itself(kind):
    """An engine with all other kinds refuses this one by its field, and takes it if declared."""
    constraint, param = CONSTRAINTS[kind]
    request = request_with(constraint=constraint, grammar=Grammar("compiled"))
    with pytest.raises(UnsupportedFeatureError, match="has no") as refused:
        check_capabilities(request, Capabilities(constraints=ALL_CONSTRAINTS - {kind}))
    assert param == refused.value.param
    check_capabilities(request, Capabilities(constraints=frozenset({kind})))


def test_a_grammar_alone_needs_an_engine_with_constraints():
    """A grammar whose source is unknown is refused where an engine takes no constraint at all."""
    request = request_with(grammar=Grammar("compiled"))
    with pytest.raises(UnsupportedFeatureError, match="has no grammars"):
        check_capabilities(request, Capabilities())
    check_capabilities(request, Capabilities(constraints=frozenset({ConstraintKind.REGEX})))


def test_hints_and_plain_sampling_need_nothing():
    """An engine without capabilities takes salts, priorities and public tokens."""
    check_capabilities(
        request_with(cache_salt="salt", priority=1, num_public_tokens=2), Capabilities()
    )
