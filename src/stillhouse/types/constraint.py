"""Defines constraints on a completion: portable ones, beside the grammar made of them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

import msgspec

from stillhouse.types.json_object import JsonObject
from stillhouse.types.tool_call_form import ToolCallForm


class ConstraintKind(StrEnum):
    """The kinds of constraints, each of which an engine can enforce or not."""

    JSON_SCHEMA = "json_schema"
    REGEX = "regex"
    TOOL_CALLS = "tool_calls"


class JsonSchemaConstraint(msgspec.Struct, frozen=True, tag=str(ConstraintKind.JSON_SCHEMA)):
    """
    The completion is JSON that fits a JSON Schema.

    Args:
        schema: Checked, and without keywords that constrain nothing; ``{"type": "object"}`` for
            any object.

    """

    kind: ClassVar = ConstraintKind.JSON_SCHEMA

    schema: JsonObject


class RegexConstraint(msgspec.Struct, frozen=True, tag=str(ConstraintKind.REGEX)):
    """
    The whole completion matches a regular expression.

    Args:
        regex: In the syntax of Rust's regex crate, without look-around and back-references.

    """

    kind: ClassVar = ConstraintKind.REGEX

    regex: str


@dataclass(frozen=True, slots=True)
class ToolArguments:
    """
    The arguments with which a completion may call one tool.

    Args:
        schema: JSON Schema of an object, checked.
        is_strict: False where an engine may leave keywords unenforced that it cannot enforce.

    """

    tool_name: str
    schema: JsonObject
    is_strict: bool


class ToolCallConstraint(msgspec.Struct, frozen=True, tag=str(ConstraintKind.TOOL_CALLS)):
    """
    The completion calls tools in a model family's own form.

    Args:
        form: The texts around names and arguments.
        tools: The tools that may be called.
        max_calls: The most calls in one completion.
        is_required: The completion is nothing but calls; otherwise text may stand before them, or
            instead of them.
        text: What a completion without calls has to be; None allows any text.

    """

    kind: ClassVar = ConstraintKind.TOOL_CALLS

    form: ToolCallForm
    tools: tuple[ToolArguments, ...]
    max_calls: int
    is_required: bool
    text: JsonSchemaConstraint | RegexConstraint | None = None


PortableConstraint = JsonSchemaConstraint | RegexConstraint | ToolCallConstraint


@dataclass(frozen=True, slots=True)
class Constraint:
    """
    Constrains a completion; each engine reads the representation that it can enforce.

    A model that reasons writes its reasoning freely, so the constraint begins behind it: behind
    the first occurrence of `after_token_id` in the completion. A completion in which that token
    never occurs is unconstrained.

    Args:
        portable: A JSON Schema, a regular expression or a form of tool calls.
        grammar: The same constraint as llguidance reads it: a JSON object with the key
            ``grammars``. It has been compiled once, under limits of time and memory, before an
            engine receives it.
        after_token_id: The token after whose first occurrence the constraint applies; it applies
            from the start if None.

    """

    portable: PortableConstraint
    grammar: str
    after_token_id: int | None = None

    @property
    def param(self) -> str:
        """The request's field that asks for the constraint."""
        is_tool_call = isinstance(self.portable, ToolCallConstraint)
        return "tools" if is_tool_call else "response_format"
